"use strict";
// Draws the charts that charts.py describes. Colours are read from the stylesheet, so that a switch to dark mode
// needs nothing but to draw again.

const LINES = 8;
const HEIGHT_PX = 240;
const POINTS_UP_TO = 60;
const TIME_STEPS_S = [0.1, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400];
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
const exact = new Intl.NumberFormat("en", { maximumSignificantDigits: 5 });
const FROM_ZERO = { min: { pad: 0.05, soft: 0, mode: 1 }, max: { pad: 0.1, soft: 0, mode: 1 } };
const shown = []; // every plot in the page

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function clock(seconds) {
  if (seconds === null || seconds === undefined) return "";
  const whole = Math.floor(seconds + 1e-9);
  const rest = seconds - whole > 0.05 ? (seconds - whole).toFixed(1).slice(1) : "";
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (h ? h + ":" + two(m) : String(m)) + ":" + two(s) + rest;
}

// Vertical lines with a number each, the numbers that would overlap left out.
function eventLines(events) {
  return (u) => {
    const { ctx, bbox } = u;
    const ratio = devicePixelRatio;
    let free = -Infinity;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("--event");
    ctx.lineWidth = ratio;
    ctx.font = 11 * ratio + "px system-ui, sans-serif";
    ctx.textAlign = "left";
    ctx.textBaseline = "top";
    events.forEach((event, index) => {
      const x = Math.round(u.valToPos(event.at_s, "x", true)) + 0.5;
      if (x < bbox.left || x > bbox.left + bbox.width) return;
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const text = String(index + 1);
      const width = ctx.measureText(text).width + 6 * ratio;
      if (x < free || x + width > bbox.left + bbox.width) return;
      ctx.fillText(text, x + 3 * ratio, bbox.top + 2 * ratio);
      free = x + width;
    });
    ctx.restore();
  };
}

function axes(log) {
  const common = {
    stroke: () => colour("--soft"),
    grid: { stroke: () => colour("--rule"), width: 1 },
    ticks: { stroke: () => colour("--rule"), width: 1, size: 4 },
    font: "12px system-ui, sans-serif",
  };
  const number = (v) => (v === null ? "" : compact.format(v));
  return [
    { ...common, space: 70, size: 30, incrs: TIME_STEPS_S, values: (u, splits) => splits.map(clock) },
    { ...common, size: 54, space: log ? 18 : 32, values: (u, splits) => splits.map(number) },
  ];
}

function line(label, index, chart, points) {
  const round = Math.floor(index / LINES);
  return {
    label,
    stroke: () => colour("--line-" + (chart.colours ? chart.colours[index] : index % LINES)),
    width: 1.5,
    dash: chart.dashes ? chart.dashes[index] : round ? [6, 3 * round] : [],
    points: points <= POINTS_UP_TO ? { size: 5 } : { show: false },
    value: (u, v) => (v === null || v === undefined ? "–" : exact.format(v)),
  };
}

function isWhole(at, min, max) {
  return min === null || (min <= at[0] && max >= at[at.length - 1]);
}

// From the first to the last instant of several charts, so that one time stands at one place in all of them.
function span(charts) {
  const ends = charts.flatMap(({ tables }) => tables.flatMap(([at]) => [at[0], at[at.length - 1]]));
  const [first, last] = [Math.min(...ends), Math.max(...ends)];
  return [first, last > first ? last : first + 1];
}

// chart: {log, labels, tables} as charts.py writes it, with `colours` and `dashes` per line if they matter.
function draw(element, chart, { events = [], sync, whole }) {
  const data = chart.tables.length === 1 ? chart.tables[0] : uPlot.join(chart.tables);
  const width = () => Math.max(240, element.clientWidth);
  const plot = new uPlot(
    {
      width: width(),
      height: HEIGHT_PX,
      cursor: { sync: { key: sync, setSeries: false }, drag: { x: true, y: false }, points: { size: 6 } },
      scales: {
        x: { time: false, range: (u, min, max) => (isWhole(u.data[0], min, max) ? whole : [min, max]) },
        y: chart.log ? { distr: 3 } : { range: (u, min, max) => (max ? uPlot.rangeNum(min, max, FROM_ZERO) : [0, 1]) },
      },
      axes: axes(chart.log),
      series: [
        { label: "at", value: (u, v) => (v === null || v === undefined ? "–" : clock(v)) },
        ...chart.labels.map((label, index) => line(label, index, chart, data[0].length)),
      ],
      hooks: { draw: [eventLines(events)] },
    },
    data,
    element,
  );
  new ResizeObserver(() => {
    if (element.clientWidth && Math.abs(width() - plot.width) > 1) plot.setSize({ width: width(), height: HEIGHT_PX });
  }).observe(element);
  shown.push(plot);
  return plot;
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  shown.forEach((plot) => plot.redraw(false, true));
});
