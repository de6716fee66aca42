"use strict";
// Keeps a page up to date: asks for it again, and puts what it says now in place of what it said.
// What changes has an id and data-live; <meta name="refresh-seconds"> tells how often to ask.

(() => {
  const SHORTEST_S = 1;
  const LONGEST_S = 300;
  let tag = null;
  let failed = 0;

  function wait_s() {
    const asked = Number(document.querySelector("meta[name=refresh-seconds]")?.content) || 60;
    return Math.min(Math.max(asked, SHORTEST_S) * 2 ** Math.min(failed, 6), LONGEST_S);
  }

  // By what a part that opens is known, whatever stands before it: its headings.
  function name_of(details) {
    const heads = [
      details.closest("section")?.id,
      details.closest("article")?.querySelector("h3")?.textContent,
      details.parentElement.closest("details")?.querySelector(".name")?.textContent,
      details.querySelector(":scope > summary > .name")?.textContent,
      details.className,
    ];
    return heads.join("\n");
  }

  function path_to(element, root) {
    const path = [];
    for (let at = element; at !== root; at = at.parentElement) {
      path.unshift([...at.parentElement.children].indexOf(at));
    }
    return path;
  }

  // What a person has opened stays open, and what has the focus keeps it.
  function put(old, fresh) {
    const opened = new Map();
    for (const one of old.querySelectorAll("details")) opened.set(name_of(one), one.open);
    for (const one of fresh.querySelectorAll("details")) {
      one.open = opened.get(name_of(one)) ?? one.open;
    }
    const focused = old.contains(document.activeElement) && document.activeElement !== old;
    const path = focused ? path_to(document.activeElement, old) : null;
    old.replaceWith(fresh);
    path?.reduce((at, index) => at?.children[index], fresh)?.focus({ preventScroll: true });
  }

  async function look() {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(location.href, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(`the server said ${answer.status}`);
    tag = answer.headers.get("ETag");
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-live], meta[name=refresh-seconds]")) {
      const old = fresh.id ? document.getElementById(fresh.id) : document.querySelector("meta[name=refresh-seconds]");
      // As the server wrote it: what is open here is no news.
      if (old && told(old) !== told(fresh)) put(old, document.adoptNode(fresh));
    }
    document.dispatchEvent(new CustomEvent("backfill:changed"));
  }

  function told(element) {
    const copy = element.cloneNode(true);
    for (const one of copy.querySelectorAll("details")) one.open = false;
    return copy.outerHTML;
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

  setTimeout(turn, wait_s() * 1000);
})();
