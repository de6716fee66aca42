"use strict";
// Keeps a page up to date: asks for it again, and puts what it says now in place of what it said.
// The part that changes is <main id="live">, which tells in data-refresh-s how often to ask.

(() => {
  const SHORTEST_S = 1;
  const LONGEST_S = 300;
  let tag = null;
  let failed = 0;

  const live = () => document.getElementById("live");

  function wait_s() {
    const asked = Number(live()?.dataset.refreshS) || 60;
    return Math.min(Math.max(asked, SHORTEST_S) * 2 ** Math.min(failed, 6), LONGEST_S);
  }

  // What a person has opened stays open, and what has the focus keeps it.
  function put(fresh) {
    const old = live();
    const open = new Map([...old.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
    const focused = old.contains(document.activeElement) ? document.activeElement : null;
    for (const one of fresh.querySelectorAll("details[id]")) {
      if (open.has(one.id)) one.open = open.get(one.id);
    }
    const place = focused && path_to(focused, old);
    old.replaceWith(fresh);
    if (place) found_by(place, fresh)?.focus({ preventScroll: true });
  }

  function path_to(element, root) {
    if (element.id) return element.id;
    const path = [];
    for (let at = element; at !== root; at = at.parentElement) {
      path.unshift([...at.parentElement.children].indexOf(at));
    }
    return path;
  }

  function found_by(place, root) {
    if (typeof place === "string") return document.getElementById(place);
    return place.reduce((at, index) => at?.children[index], root);
  }

  async function look() {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(`the server said ${answer.status}`);
    tag = answer.headers.get("ETag");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("live");
    if (fresh && fresh.innerHTML !== live().innerHTML) {
      put(document.adoptNode(fresh));
      document.dispatchEvent(new CustomEvent("backfill:changed"));
    }
  }

  async function turn() {
    if (!document.hidden) {
      try {
        await look();
        failed = 0;
      } catch {
        failed += 1;
      }
      document.documentElement.toggleAttribute("data-away", failed > 0);
    }
    setTimeout(turn, wait_s() * 1000);
  }

  if (live()) setTimeout(turn, wait_s() * 1000);
})();
