"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const NS = "http://www.w3.org/2000/svg";
const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const whole = n => Math.round(n).toLocaleString("en-US");
const short = n => {
  const digits = (value, unit) => {
    const text = value >= 100 ? value.toFixed(0) : value.toFixed(1);
    return text.replace(/\.0$/, "") + unit;
  };
  if (Math.abs(n) >= 1e6) return digits(n / 1e6, " M");
  if (Math.abs(n) >= 1e4) return digits(n / 1e3, " k");
  return n >= 100 ? whole(n) : String(Math.round(n * 100) / 100);
};
const day = date => new Date(date + "T00:00:00Z").toLocaleDateString(
  "en-US", { month: "short", day: "numeric", timeZone: "UTC" });

function el(parent, name, attributes, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}
function html(parent, name, className, text) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  parent.appendChild(node);
  return node;
}
function clear(id) {
  const place = document.getElementById(id);
  place.textContent = "";
  return place;
}
function none(place, text) { html(place, "p", "none", text); }

/* Round steps of an axis from low to high. */
function ticks(low, high, most) {
  const span = high - low || 1;
  const raw = span / most;
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = [1, 2, 2.5, 5, 10].map(n => n * power).find(n => n >= raw);
  const out = [];
  for (let n = Math.floor(low / step) * step; n < high + step * 0.999; n += step) out.push(n);
  return out;
}

/* A frame with both axes; gives the places of values. */
function frame(place, labels, low, high, format, height) {
  const width = Math.max(place.clientWidth, 240);
  const left = 52, right = 10, top = 8, bottom = 24;
  const svg = el(place, "svg", { viewBox: `0 0 ${width} ${height}`, height });
  const steps = ticks(low, high, 4);
  const [least, most] = [steps[0], steps[steps.length - 1]];
  const y = n => top + (height - top - bottom) * (1 - (n - least) / (most - least || 1));
  const slot = (width - left - right) / labels.length;
  const x = at => left + slot * (at + 0.5);
  for (const n of steps) {
    el(svg, "line", { class: "grid", x1: left, x2: width - right, y1: y(n), y2: y(n) });
    el(svg, "text", { x: left - 6, y: y(n) + 4, "text-anchor": "end" }, format(n));
  }
  const every = Math.ceil(labels.length / Math.max(2, Math.floor((width - left) / 72)));
  labels.forEach((label, at) => {
    if (at % every === 0 && x(at) + 22 < width)
      el(svg, "text", { x: x(at), y: height - 6, "text-anchor": "middle" }, label);
  });
  return { svg, x, y, slot, zero: y(Math.max(least, 0)), width };
}

function line(f, values, stroke, titles) {
  const points = values.map((v, at) => [at, v]).filter(p => p[1] !== null);
  const path = points.map((p, n) => `${n ? "L" : "M"}${f.x(p[0]).toFixed(1)} ${f.y(p[1]).toFixed(1)}`);
  el(f.svg, "path", { d: path.join(""), fill: "none", stroke, "stroke-width": 2, "stroke-linejoin": "round" });
  for (const [at, v] of points) {
    const radius = points.length > 45 ? 1.5 : 2.5;
    const dot = el(f.svg, "circle", { cx: f.x(at), cy: f.y(v), r: radius, fill: stroke });
    el(dot, "title", {}, titles(at, v));
  }
}

function bars(f, values, fill, titles) {
  values.forEach((v, at) => {
    const width = Math.max(1, f.slot * 0.72);
    const bar = el(f.svg, "rect", {
      x: f.x(at) - width / 2, y: f.y(v), width, height: Math.max(0, f.zero - f.y(v)), fill, rx: 1.5,
    });
    el(bar, "title", {}, titles(at, v));
  });
}

function legend(place, entries) {
  const box = html(place, "div", "legend");
  for (const [name, fill] of entries) {
    const entry = html(box, "span");
    html(entry, "i").style.background = fill;
    entry.append(name);
  }
}

const labels = data.days.map(d => day(d.date));
const count = (d, status) => d.statuses[status] || 0;

function price() {
  const place = clear("price");
  const values = data.days.map(d => d.price);
  const known = values.filter(v => v !== null);
  if (!known.length) return none(place, "Nothing is active");
  const room = (Math.max(...known) - Math.min(...known)) * 0.15 || Math.max(...known) * 0.02;
  const f = frame(place, labels, Math.min(...known) - room, Math.max(...known) + room, short, 220);
  line(f, values, colour("--one"), (at, v) => `${labels[at]}: ${whole(v)}`);
}

function inventory() {
  const place = clear("inventory");
  const series = [["Active", "--one"], ["Active Under Contract", "--three"], ["Pending", "--two"]]
    .map(([name, own]) => [name, colour(own), data.days.map(d => count(d, name))])
    .filter(([, , values]) => values.some(v => v > 0));
  if (!series.length) return none(place, "Nothing is for sale");
  const high = Math.max(...series.flatMap(s => s[2]));
  const f = frame(place, labels, 0, high, short, 220);
  for (const [name, stroke, values] of series)
    line(f, values, stroke, (at, v) => `${labels[at]}, ${name}: ${whole(v)}`);
  legend(place, series.map(([name, stroke]) => [name, stroke]));
}

function cuts() {
  const place = clear("cuts");
  if (!data.cuts.length) return none(place, "No price was cut in the days shown");
  const active = new Map(data.days.map(d => [d.date, count(d, "Active")]));
  let last = 0;
  const rows = data.cuts.map(c => {
    last = active.get(c.date) || last || count(data.days[data.days.length - 1], "Active");
    return { ...c, rate: last ? c.count / last * 100 : 0 };
  });
  const f = frame(place, rows.map(r => day(r.date)), 0, Math.max(...rows.map(r => r.rate)), short, 220);
  bars(f, rows.map(r => r.rate), colour("--two"), at => {
    const r = rows[at];
    return `${day(r.date)}: ${whole(r.count)} cuts, by ${(r.mean * 100).toFixed(1)} % in the mean`;
  });
}

function market() {
  const place = clear("market");
  const m = data.onMarket;
  if (!m || !m.bars.some(n => n > 0)) return none(place, "No listing says how long it is for sale");
  const names = m.bars.map((_, at) => at === m.bars.length - 1 ? `${at * m.width}+` : String(at * m.width));
  const f = frame(place, names, 0, Math.max(...m.bars), short, 220);
  bars(f, m.bars, colour("--three"), (at, v) => `${names[at]} days and more: ${whole(v)}`);
}

function flow() {
  const place = clear("flow");
  const total = data.flow.reduce((n, r) => n + r.count, 0);
  if (!total) return none(place, "No status changed in the days shown");
  const rows = [...data.flow].sort((a, b) => b.count - a.count).slice(0, 24);
  const sum = side => {
    const sums = new Map();
    for (const r of rows) sums.set(r[side], (sums.get(r[side]) || 0) + r.count);
    return [...sums].sort((a, b) => b[1] - a[1]);
  };
  const [from, to] = [sum("from"), sum("to")];
  const shown = rows.reduce((n, r) => n + r.count, 0);
  const width = Math.max(place.clientWidth, 240);
  const side = width < 560 ? 108 : 190, gap = 26;
  const inner = 260;
  const height = inner + gap * Math.max(from.length, to.length);
  const svg = el(place, "svg", { viewBox: `0 0 ${width} ${height}`, height });
  const palette = ["--one", "--two", "--three", "--soft"].map(colour);
  const box = (list, x, anchor) => {
    const room = height - inner;
    const pad = room / list.length;
    let y = pad / 2;
    const out = new Map();
    list.forEach(([name, n], at) => {
      const tall = n / shown * inner;
      el(svg, "rect", { x, y, width: 8, height: Math.max(1.5, tall), fill: palette[at % palette.length], rx: 1 });
      const middle = y + Math.max(tall, 2) / 2;
      const text = anchor === "end" ? x - 8 : x + 16;
      const label = el(svg, "text", { x: text, y: middle - 2, "text-anchor": anchor, class: "name" }, name);
      fit(label, name, side - 14);
      el(svg, "text", { x: text, y: middle + 12, "text-anchor": anchor }, whole(n));
      out.set(name, { y, colour: palette[at % palette.length] });
      y += tall + pad;
    });
    return out;
  };
  const left = box(from, side, "end"), right = box(to, width - side - 8, "start");
  for (const r of rows) {
    const a = left.get(r.from), b = right.get(r.to), tall = r.count / shown * inner;
    const [x1, x2] = [side + 8, width - side - 8], half = (x1 + x2) / 2;
    const d = `M${x1} ${a.y}C${half} ${a.y} ${half} ${b.y} ${x2} ${b.y}V${b.y + tall}` +
      `C${half} ${b.y + tall} ${half} ${a.y + tall} ${x1} ${a.y + tall}Z`;
    const ribbon = el(svg, "path", { d, fill: a.colour, opacity: 0.35 });
    el(ribbon, "title", {}, `${r.from} to ${r.to}: ${whole(r.count)}`);
    a.y += tall;
    b.y += tall;
  }
}

/* Cuts a label that is wider than its place. */
function fit(node, text, room) {
  let length = text.length;
  while (length > 3 && node.getComputedTextLength() > room) {
    length -= 1;
    node.textContent = text.slice(0, length).trimEnd() + "\u2026";
  }
}

/* From cheap to dear. */
const SCALE = [[43, 92, 168], [60, 141, 130], [222, 176, 60], [201, 72, 56]];
function shade(part) {
  const at = Math.min(Math.max(part, 0), 0.9999) * (SCALE.length - 1);
  const n = Math.floor(at), t = at - n;
  return `rgb(${SCALE[n].map((c, i) => Math.round(c + (SCALE[n + 1][i] - c) * t)).join(",")})`;
}

function map() {
  const place = clear("map");
  const m = data.map;
  const what = document.getElementById("map-what");
  if (!m || !m.dots.length) {
    what.textContent = "";
    return none(place, "Nothing that is active says where it is");
  }
  what.textContent = m.all === m.dots.length
    ? `${whole(m.all)} active listings, by price`
    : `${whole(m.dots.length)} of ${whole(m.all)} active listings, by price`;
  const sorted = axis => m.dots.map(d => d[axis]).sort((a, b) => a - b);
  const at = (list, part) => list[Math.min(list.length - 1, Math.floor(part * list.length))];
  const [xs, ys, prices] = [sorted(0), sorted(1), sorted(2)];
  /* A few misplaced points must not shrink all others. */
  const ends = list => {
    const [low, high] = [at(list, 0.003), at(list, 0.997)];
    const room = (high - low) * 0.05 || 0.01;
    return [low - room, high + room];
  };
  const [[west, east], [south, north]] = [ends(xs), ends(ys)];
  const squeeze = Math.cos((south + north) / 2 * Math.PI / 180);
  const width = Math.max(place.clientWidth, 240);
  const ratio = (north - south) / ((east - west) * squeeze);
  const height = Math.round(Math.min(width * ratio, width < 560 ? 420 : 560));
  const scale = Math.min(width / ((east - west) * squeeze), height / (north - south));
  const canvas = html(place, "canvas");
  const sharp = window.devicePixelRatio || 1;
  canvas.width = width * sharp;
  canvas.height = height * sharp;
  canvas.style.height = height + "px";
  const pen = canvas.getContext("2d");
  pen.scale(sharp, sharp);
  pen.fillStyle = colour("--paper");
  pen.fillRect(0, 0, width, height);
  pen.globalAlpha = m.dots.length > 2000 ? 0.6 : 0.8;
  const [low, high] = [at(prices, 0.05), at(prices, 0.95)];
  const left = (width - (east - west) * squeeze * scale) / 2;
  for (const [x, y, price] of m.dots) {
    if (x < west || x > east || y < south || y > north) continue;
    pen.fillStyle = shade((price - low) / (high - low || 1));
    pen.beginPath();
    pen.arc(left + (x - west) * squeeze * scale, (north - y) * scale, m.dots.length > 2000 ? 1.8 : 2.6, 0, 7);
    pen.fill();
  }
  const box = html(place, "div", "legend");
  html(box, "span", "", short(low));
  html(box, "span", "scale").style.background =
    `linear-gradient(90deg, ${SCALE.map(c => `rgb(${c.join(",")})`).join(",")})`;
  html(box, "span", "", `${short(high)} and more`);
}

function figures() {
  const place = clear("figures");
  const last = data.days[data.days.length - 1], first = data.days[0];
  const total = data.cuts.reduce((n, c) => n + c.count, 0);
  const share = (now, then) => now && then && data.days.length > 1
    ? ` (${now >= then ? "+" : "\u2212"}${Math.abs((now / then - 1) * 100).toFixed(1)} %)` : "";
  const entries = [
    [whole(count(last, "Active")), "active" + share(count(last, "Active"), count(first, "Active"))],
    [last.price === null ? "\u2013" : short(last.price), "median list price" + share(last.price, first.price)],
    [whole(count(last, "Pending") + count(last, "Active Under Contract")), "under contract"],
    [whole(total), "price cuts in the days shown"],
    [data.onMarket && data.onMarket.median !== null ? whole(data.onMarket.median) : "\u2013", "median days on market"],
  ];
  for (const [number, words] of entries) {
    const figure = html(place, "div", "figure");
    html(figure, "b", "", number);
    html(figure, "span", "", words);
  }
}

function draw() {
  const days = data.days.length;
  document.getElementById("about").textContent =
    `${whole(data.records)} records of ${data.resource}, as of ${data.asOf.replace("T", " ").replace("Z", " UTC")}` +
    (days > 1 ? `; ${day(data.days[0].date)} to ${day(data.days[days - 1].date)}` : "; one day of history so far");
  [figures, price, inventory, cuts, market, flow, map].forEach(part => part());
}
draw();
let waiting;
let drawn = document.documentElement.clientWidth;
new ResizeObserver(() => {
  const width = document.documentElement.clientWidth;
  if (width === drawn) return;
  clearTimeout(waiting);
  waiting = setTimeout(() => { drawn = width; draw(); }, 60);
}).observe(document.body);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
