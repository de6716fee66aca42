"use strict";
// Draws the bars of a page by TradingView Lightweight Charts. #chart tells in data-drawing where
// they are had; what comes is looked at before the library gets it, which looks at nothing.

(() => {
  const place = document.getElementById("chart");
  const said = document.getElementById("said");
  if (!place || !window.LightweightCharts) return;
  const intraday = place.dataset.intraday === "yes";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const signs = { split: "S", dividend: "D" };
  const shapes = { gap: "square", quarantined: "circle", split: "arrowDown", dividend: "arrowUp" };
  const heights = { gap: 0.06, quarantined: 0.12, split: 0.94, dividend: 0.88 };

  const colour = (name) => getComputedStyle(place).getPropertyValue(`--${name}`).trim();
  const of_mark = (kind) => colour({ gap: "gap", quarantined: "quarantined" }[kind] ?? "link");

  const chart = LightweightCharts.createChart(place, {
    autoSize: true,
    layout: { attributionLogo: false }, // it would bring a style of its own; the page has the notice
    timeScale: { timeVisible: intraday, secondsVisible: false, minBarSpacing: 0.001 },
    rightPriceScale: { scaleMargins: { top: 0.14, bottom: 0.24 } },
  });
  const shade = chart.addSeries(LightweightCharts.HistogramSeries, {
    priceScaleId: "shade",
    base: 0,
    lastValueVisible: false,
    priceLineVisible: false,
    autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 1 } }),
  });
  const volume = chart.addSeries(LightweightCharts.HistogramSeries, {
    priceScaleId: "volume",
    priceFormat: { type: "volume" },
    lastValueVisible: false,
    priceLineVisible: false,
  });
  const candles = chart.addSeries(LightweightCharts.CandlestickSeries, {});
  // Marks hang on a line that nobody sees: one on a series without a value at its time would be
  // drawn where that series has the one before.
  const places = chart.addSeries(LightweightCharts.LineSeries, {
    priceScaleId: "shade",
    lineVisible: false,
    crosshairMarkerVisible: false,
    lastValueVisible: false,
    priceLineVisible: false,
    autoscaleInfoProvider: () => ({ priceRange: { minValue: 0, maxValue: 1 } }),
  });
  chart.priceScale("shade").applyOptions({ scaleMargins: { top: 0, bottom: 0 }, visible: false });
  chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.8, bottom: 0 } });
  const markers = LightweightCharts.createSeriesMarkers(places, []);

  let slots = []; // every place on the axis of time: {time, bar, marks}, in order
  let at = -1; // where the reader is
  let tag = null;
  let drawing = null;

  // Throws where the library would draw nonsense.
  function checked(slots) {
    let before = -Infinity;
    for (const { time, bar } of slots) {
      if (!Number.isInteger(time) || time <= before) throw new Error("times don't rise");
      before = time;
      if (!bar) continue;
      if (!bar.every(Number.isFinite)) throw new Error("a number is missing");
      const [open, high, low, close] = bar;
      if (!(low <= open && low <= close && open <= high && close <= high)) {
        throw new Error("prices contradict each other");
      }
    }
    return slots;
  }

  function slots_of({ bars, blank, marks }) {
    const by_time = new Map();
    bars.time.forEach((time, i) => {
      const bar = [bars.open[i], bars.high[i], bars.low[i], bars.close[i], bars.volume[i]];
      by_time.set(time, { time, bar, marks: [] });
    });
    for (const time of blank) by_time.set(time, { time, bar: null, marks: [] });
    for (const mark of marks) by_time.get(mark.time).marks.push(mark);
    return checked([...by_time.values()].sort((one, other) => one.time - other.time));
  }

  function shaded(slots, { extended, marks }) {
    const bad = new Map(marks.filter((one) => !signs[one.kind]).map((one) => [one.time, one.kind]));
    let span = 0;
    return slots.map(({ time, bar }) => {
      while (span < extended.length && extended[span][1] < time) span += 1;
      const outside = span < extended.length && extended[span][0] <= time;
      const kind = bad.get(time) ?? (bar ? null : "gap");
      if (kind) return { time, value: 1, color: colour(`${kind}-behind`) };
      return outside && bar ? { time, value: 1, color: colour("extended") } : { time };
    });
  }

  function draw() {
    const rising = colour("fine");
    const falling = colour("bad");
    chart.applyOptions({
      layout: { background: { color: colour("ground") }, textColor: colour("text") },
      grid: { vertLines: { color: colour("raised") }, horzLines: { color: colour("raised") } },
    });
    candles.applyOptions({
      upColor: rising, wickUpColor: rising, borderUpColor: rising,
      downColor: falling, wickDownColor: falling, borderDownColor: falling,
      priceFormat: {
        type: "price", precision: drawing.decimals, minMove: 10 ** -drawing.decimals,
      },
    });
    shade.setData(shaded(slots, drawing));
    candles.setData(slots.map(({ time, bar }) => (
      bar ? { time, open: bar[0], high: bar[1], low: bar[2], close: bar[3] } : { time }
    )));
    volume.setData(slots.map(({ time, bar }) => (
      bar ? { time, value: bar[4], color: colour("volume") } : { time }
    )));
    places.setData(slots.map(({ time }) => ({ time, value: 0.5 })));
    markers.setMarkers(drawing.marks.map(({ time, kind, text }, index) => ({
      id: String(index), time, shape: shapes[kind], color: of_mark(kind), text: signs[kind] ?? text,
      position: "atPriceMiddle", price: heights[kind],
    })));
  }

  const stamp = (time) => {
    const text = new Date(time * 1000).toISOString();
    return intraday ? text.slice(0, 16).replace("T", " ") : text.slice(0, 10);
  };

  function words({ time, bar, marks }) {
    const price = (number) => number.toFixed(drawing.decimals);
    const numbers = bar
      ? `open ${price(bar[0])}, high ${price(bar[1])}, low ${price(bar[2])}, close ${price(bar[3])}, volume ${bar[4]}`
      : "no bar";
    return [`${stamp(time)}: ${numbers}`, ...marks.map((one) => one.text)].join("; ");
  }

  function go(to) {
    if (!slots.length) return;
    at = Math.min(Math.max(to, 0), slots.length - 1);
    const { time, bar } = slots[at];
    const shown = chart.timeScale().getVisibleLogicalRange();
    if (shown && (at < shown.from || at > shown.to)) {
      const half = (shown.to - shown.from) / 2;
      chart.timeScale().setVisibleLogicalRange({ from: at - half, to: at + half });
    }
    if (bar) chart.setCrosshairPosition(bar[3], time, candles);
    else chart.setCrosshairPosition(0.5, time, places);
    said.textContent = words(slots[at]);
  }

  function zoom(factor) {
    const shown = chart.timeScale().getVisibleLogicalRange();
    if (!shown) return;
    const middle = at < 0 ? (shown.from + shown.to) / 2 : at;
    const half = Math.max(((shown.to - shown.from) / 2) * factor, 5);
    chart.timeScale().setVisibleLogicalRange({ from: middle - half, to: middle + half });
  }

  const last = () => slots.length - 1;
  const keys = {
    ArrowLeft: () => go(at < 0 ? last() : at - 1),
    ArrowRight: () => go(at < 0 ? last() : at + 1),
    PageUp: () => go(at < 0 ? last() : at - 10),
    PageDown: () => go(at < 0 ? last() : at + 10),
    Home: () => go(0),
    End: () => go(last()),
    "+": () => zoom(0.5),
    "=": () => zoom(0.5),
    "-": () => zoom(2),
  };
  place.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });

  chart.subscribeCrosshairMove(({ hoveredInfo }) => {
    const mark = drawing?.marks[hoveredInfo?.objectId];
    if (mark) said.textContent = `${stamp(mark.time)}: ${mark.text}`;
  });

  async function look() {
    const headers = tag ? { "If-None-Match": tag } : {};
    const answer = await fetch(place.dataset.drawing, { headers, cache: "no-store" });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(`the server said ${answer.status}`);
    const fresh = await answer.json();
    slots = slots_of(fresh);
    const first = drawing === null;
    drawing = fresh;
    tag = answer.headers.get("ETag");
    draw();
    if (first) chart.timeScale().fitContent();
    document.getElementById("undrawn")?.remove();
    place.dataset.drawn = String(fresh.bars.time.length);
    place.dataset.marked = String(fresh.marks.length);
  }

  const redraw = () => look().catch((error) => {
    said.textContent = `The chart isn't drawn: ${error.message}. The table has the bars.`;
  });
  dark.addEventListener("change", () => drawing && draw());
  document.addEventListener("backfill:changed", redraw);
  // For whoever wants to know where something is: a test, or a reader's own script.
  place.coordinate_of = (time) => chart.timeScale().timeToCoordinate(time);
  place.marks = () => markers.markers().map(({ time, text, price }) => (
    { time, text, x: chart.timeScale().timeToCoordinate(time), y: places.priceToCoordinate(price) }
  ));
  redraw();
})();
