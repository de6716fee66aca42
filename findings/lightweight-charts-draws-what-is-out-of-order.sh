#!/usr/bin/env bash
# lightweight-charts 5.2.1 (Chromium by playwright-core 1.65.1): the production build, the one that
# pages load, takes times that go backwards without a word, and draws them; the development build
# refuses them. A guess is that bad data raises in both. And a marker at a time at which its own series
# has no value, though the axis has, is drawn at the value before, or at the first one: on another day.
# A guess is that it stands at its time, or isn't drawn.
#
# Output seen:
#   development: Assertion failed: data must be asc ordered by time, index=1, time=1704067200, prev time=1704240000
#   production:  no error; 3 values kept, the first of 2024-01-03
#   a marker of 2024-01-01 is found at 2024-01-02
#   a marker of 2024-01-03 is found at 2024-01-02
#
# What follows here: backfill/serve/drawing.py and static/chart.js check what the library is fed, and
# marks hang on a line that has a value at each of their times.
set -euo pipefail
chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome) ||
    { echo "Chromium is needed" >&2; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund lightweight-charts@5.2.1 playwright-core@1.65.1
cat > look.js <<'JAVASCRIPT'
const assert = require("node:assert/strict");
const { chromium } = require("playwright-core");

const [day1, day2, day3, day4] = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"];

async function opened(browser, build) {
  const page = await browser.newPage();
  await page.setContent('<body style="margin:0"><div id="chart"></div>');
  await page.addScriptTag({
    path: `node_modules/lightweight-charts/dist/lightweight-charts.standalone.${build}.js`,
  });
  return page;
}

function unsorted([first, second, third]) {
  const chart = LightweightCharts.createChart("chart", { width: 600, height: 300 });
  const series = chart.addSeries(LightweightCharts.LineSeries);
  try {
    series.setData([third, first, second].map((time, value) => ({ time, value })));
  } catch (error) {
    return error.message;
  }
  const kept = series.data();
  return `no error; ${kept.length} values kept, the first of ${kept[0].time}`;
}

// A second series has all days, so the axis has them; the first has no value at its marker's.
async function marked([days, missing]) {
  const chart = LightweightCharts.createChart("chart", { width: 600, height: 300 });
  const [series, axis] = [0, 1].map(() => chart.addSeries(LightweightCharts.LineSeries));
  series.setData(days.filter((day) => day !== missing).map((time) => ({ time, value: 5 })));
  axis.setData(days.map((time) => ({ time, value: 1 })));
  const marker = { id: "mark", time: missing, position: "aboveBar", shape: "square", color: "red" };
  LightweightCharts.createSeriesMarkers(series, [marker]);
  chart.timeScale().fitContent();
  window.hovered = new Set();
  chart.subscribeCrosshairMove(({ hoveredInfo, time }) => {
    if (hoveredInfo?.objectId === "mark") window.hovered.add(time);
  });
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
  return days.map((day) => chart.timeScale().timeToCoordinate(day));
}

(async () => {
  const browser = await chromium.launch({
    executablePath: process.argv[2],
    args: ["--no-sandbox", "--disable-background-networking"],
  });
  try {
    const seen = {};
    for (const build of ["development", "production"]) {
      const page = await opened(browser, build);
      seen[build] = await page.evaluate(unsorted, [day1, day2, day3]);
      console.log(`${build}:`.padEnd(12), seen[build]);
    }
    const found = {};
    for (const missing of [day1, day3]) {
      const page = await opened(browser, "production");
      for (const x of await page.evaluate(marked, [[day1, day2, day3, day4], missing])) {
        for (let y = 2; y < 270; y += 4) await page.mouse.move(x, y);
      }
      found[missing] = await page.evaluate("[...window.hovered].join()");
      console.log(`a marker of ${missing} is found at ${found[missing]}`);
    }
    assert.match(seen.development, /^Assertion failed: data must be asc ordered by time/);
    assert.equal(seen.production, `no error; 3 values kept, the first of ${day3}`);
    assert.deepEqual(found, { [day1]: day2, [day3]: day2 });
  } finally {
    await browser.close();
  }
})();
JAVASCRIPT
node look.js "$chromium"
