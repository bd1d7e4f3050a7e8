"use strict";

// All text from the server gets into the page as text, never as markup: whoever can make this process call a host of
// his choice chooses a key.

const perPage = 50;
const $ = id => document.getElementById(id);

let rows = new Map(); // id -> {id, c, bars, sums, node, ...}
let coming = null; // rows of a connection that is not complete yet
let head = { bar_seconds: 5, bars: 60, asked_seconds: 300, good_calls: true, actions: false, overrides: [], recent_actions: [] };
let offset = 0; // the server's clock less ours, in milliseconds
let shown = "all"; // a state
let page = 0;
let onPage = []; // rows that are shown
let matched = []; // rows that pass the filter, in order
let complete = false;
const open = new Set(); // keys of the rows whose details are open

const now = () => Date.now() + offset;
const slotNow = () => Math.floor(now() / 1000 / head.bar_seconds);

// ---- the document

function el(tag, attributes, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

function svg(tag, attributes, ...children) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
  e.append(...children);
  return e;
}

// set writes only what differs, so that what a screen reader or a selection holds on to stays.
function set(e, text) {
  if (e.textContent !== text) e.textContent = text;
}

function attr(e, name, value) {
  if (e.getAttribute(name) !== value) e.setAttribute(name, value);
}

// ---- words

function duration(ms) {
  const s = Math.max(0, ms) / 1000;
  if (s < 9.95) return s.toFixed(1) + " s";
  if (s < 60) return Math.floor(s) + " s";
  if (s < 3600) return Math.floor(s / 60) + " min " + Math.floor(s % 60) + " s";
  if (s < 86400) return Math.floor(s / 3600) + " h " + Math.floor(s % 3600 / 60) + " min";
  return Math.floor(s / 86400) + " d " + Math.floor(s % 86400 / 3600) + " h";
}

const coarse = ms => ms < 9950 ? Math.floor(Math.max(0, ms) / 1000) + " s" : duration(ms);

function clock(at) {
  const d = new Date(at);
  const time = d.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
  return d.toDateString() === new Date(now()).toDateString() ? time : d.toLocaleDateString() + " " + time;
}

const count = n => n.toLocaleString("en").replaceAll(",", "\u202f");
const plural = (n, one, many) => count(n) + " " + (n === 1 ? one : many);

// kind is how a circuit is shown.
function kind(c) {
  if (c.forced) return c.state === "open" ? "forced-open" : "forced-closed";
  return c.state;
}

const names = { "open": "open", "half-open": "half-open", "closed": "closed", "forced-open": "forced open", "forced-closed": "forced closed" };
const icons = {
  "open": "M4 4l8 8M12 4l-8 8",
  "half-open": "M8 1.5a6.5 6.5 0 1 0 0 13a6.5 6.5 0 1 0 0-13zM8 3.5a4.5 4.5 0 0 1 0 9z",
  "closed": "M3 8.5l3.5 3.5L13 4.5",
  "forced-open": "M4 7h8v6H4zM5.5 7V5a2.5 2.5 0 0 1 5 0v2",
  "forced-closed": "M4 7h8v6H4zM5.5 7V5a2.5 2.5 0 0 1 5 0v2",
};

// fails reports whether most of its calls of the last minute failed.
const fails = r => r.recent.failed > 0 && (head.good_calls ? r.recent.failed > r.recent.good : r.recent.failed > 5);

function callers(r) {
  const c = r.c, recent = r.recent;
  if (c.forced && c.state === "open") return ["refusals", "all of them, by hand"];
  const refused = recent.refused > 0 ? count(recent.refused) + " refused last minute" + (c.refused_because ? " (" + c.refused_because + ")" : "") : "";
  const failed = recent.failed > 0 ? count(recent.failed) + " failed last minute" : "";
  if (c.shadow && c.shadow.on) return [fails(r) ? "failures" : "through", failed || "shadow: nothing is refused"];
  if (c.forced) return [fails(r) ? "failures" : "through", failed || refused || "whatever fails"];
  if (r.unasked) return ["nobody asks", c.state === "open" ? "refusals, but for probes" : "refusals beyond the limit"];
  if (c.state === "open") return ["refusals", "all but probes"];
  if (c.state === "half-open") return ["some through", "refusals beyond the limit"];
  if (c.throttle) return ["most through", refused || "throttled"];
  return [fails(r) ? "failures" : "through", refused || failed];
}

// ---- what comes from the server

function receive(message) {
  offset = message.now - Date.now();
  if (message.head) {
    head = message.head;
    showHead();
  }
  const into = coming || rows;
  for (const m of message.rows || []) {
    let r = into.get(m.id);
    if (!r) {
      r = { id: m.id, c: null, bars: [], dirty: true, probe: { at: "", from: 0, most: 0 } };
      into.set(m.id, r);
    }
    if (m.circuit) take(r, m.circuit);
    for (const bar of m.bars || []) {
      const have = r.bars.findIndex(b => b[0] === bar[0]);
      if (have >= 0) r.bars[have] = bar; else r.bars.push(bar);
    }
    r.dirty = true;
  }
  for (const id of message.gone || []) forget(into.get(id), into);
  if (!message.more) {
    complete = true;
    if (coming) settle();
  }
  schedule();
}

// take brings those parts of a circuit up to date that have come: its facts, which are whole, or one of the others.
function take(r, parts) {
  const { asked, refusals, probe_requests, throttle, shadow, samples, transitions } = r.c || {};
  r.c = "key" in parts ? { asked, refusals, probe_requests, throttle, shadow, samples, transitions, ...parts } : { ...r.c, ...parts };
  const c = r.c;
  r.text = (c.key + " " + c.samples.map(s => s.cause + " " + (s.trace || "")).join(" ") + " " + (c.transitions[0] ? c.transitions[0].reason : "")).toLowerCase();
  if (r.probe.at !== (c.next_probe || "")) r.probe = { at: c.next_probe || "", from: now(), most: 0 };
  r.probe.most = Math.max(r.probe.most, c.probe_requests);
}

// settle puts what has come of a new connection in the place of what was there. A row of the same key stays the row that it
// is, with what is focused, selected and scrolled in it.
function settle() {
  const before = new Map();
  for (const r of rows.values()) if (!before.has(r.c.key)) before.set(r.c.key, r);
  rows = new Map();
  for (const r of coming.values()) {
    const old = before.get(r.c.key);
    before.delete(r.c.key);
    if (old) Object.assign(old, r, { probe: old.probe.at === r.probe.at ? old.probe : r.probe });
    rows.set(r.id, old || r);
  }
  const kept = new Set(rows.values());
  for (const r of onPage) if (!kept.has(r)) forget(r, rows);
  coming = null;
}

function forget(r, from) {
  if (!r) return;
  if (r.node) { r.node.remove(); r.detail.remove(); }
  if (from.get(r.id) === r) from.delete(r.id);
}

// ---- the connection: a stream of events or, where there can be none, a look every few seconds

const lookEvery = 5000, streamAgain = 30000;
let source, heard = 0, looking = 0; // heard: when something came; looking: the timer of the next look, if there is no stream

function connect() {
  if (source) source.close();
  heard = Date.now();
  const mine = source = new EventSource("events");
  let fresh = true;
  mine.onopen = () => { fresh = true; };
  mine.onmessage = e => {
    if (mine !== source) return;
    if (fresh) coming = new Map();
    fresh = false;
    heard = Date.now();
    clearTimeout(looking);
    looking = 0;
    live("live", "live");
    receive(JSON.parse(e.data));
  };
  mine.onerror = () => {
    if (mine !== source) return;
    if (mine.readyState !== EventSource.CLOSED) {
      if (!looking) live("lost", "connection lost, trying again");
    } else if (!looking) look(); // the server has answered, and no stream
  };
}

// refusal returns why a server does not do what it is asked for, by its own words if it has some.
async function refusal(answer) {
  const text = (answer.headers.get("Content-Type") || "").startsWith("text/plain") ? (await answer.text()).trim().slice(0, 200) : "";
  return text || (answer.status + " " + answer.statusText).trim();
}

async function whyNoStream() {
  const stop = new AbortController();
  try {
    const answer = await fetch("events", { signal: stop.signal });
    return answer.ok ? "nothing comes by the stream" : await refusal(answer);
  } catch (e) {
    return "";
  } finally {
    stop.abort();
  }
}

async function look(began = Date.now(), why = null) {
  looking = looking || -1;
  const asked = Date.now();
  let after = 0;
  try {
    if (why === null) why = await whyNoStream();
    const answer = await fetch("api");
    if (!answer.ok) {
      after = Math.min(60, parseInt(answer.headers.get("Retry-After"), 10) || 0) * 1000;
      throw new Error(await refusal(answer));
    }
    const { now: at, circuits, ...rest } = await answer.json();
    if (!looking) return; // there is a stream again
    coming = new Map();
    receive({ now: Date.parse(at), head: rest, rows: circuits });
    live("polled", "looks every " + Math.round(lookEvery / 1000) + " s, since there is no stream" + (why ? ": " + why : ""));
  } catch (e) {
    if (!looking) return;
    live("lost", e instanceof TypeError || e instanceof SyntaxError ? "connection lost, trying again" : e.message + "; trying again");
  }
  if (Date.now() - began > streamAgain) {
    connect();
    began = Date.now();
    why = null;
  }
  looking = setTimeout(look, Math.max(lookEvery, after, 10 * (Date.now() - asked)), began, why);
}

function live(className, text) {
  attr($("live"), "class", className);
  set($("live"), text);
  attr($("live"), "title", text);
}

// ---- the list

function sum(r) {
  const last = slotNow(), first = last - head.bars + 1, lately = last - Math.round(60 / head.bar_seconds) + 1;
  r.bars = r.bars.filter(b => b[0] >= first);
  r.sums = { good: 0, failed: 0, refused: 0 };
  r.recent = { good: 0, failed: 0, refused: 0 };
  for (const [slot, good, failed, refused] of r.bars) {
    for (const into of slot >= lately ? [r.sums, r.recent] : [r.sums]) {
      into.good += good; into.failed += failed; into.refused += refused;
    }
  }
  const c = r.c;
  r.kind = kind(c);
  r.lately = c.state === "closed" && (c.evidence > 0 || c.throttle || r.recent.failed + r.recent.refused > 0);
  r.unasked = c.state !== "closed" && !c.forced && !(now() - Date.parse(c.asked) <= head.asked_seconds * 1000);
  r.rank = r.unasked ? 4 : r.kind === "open" ? 0 : r.kind === "half-open" ? 1 : c.forced ? 2 : r.lately ? 3 : 5;
}

// What the circuits are counted by, on the buttons and in the verdict: each is of one kind; unasked, lately and shadow go across.
const isOf = {
  "all": () => true,
  "open": r => r.kind === "open",
  "half-open": r => r.kind === "half-open",
  "forced-open": r => r.kind === "forced-open",
  "forced-closed": r => r.kind === "forced-closed",
  "closed": r => r.kind === "closed",
  "unasked": r => r.unasked,
  "lately": r => r.lately,
  "shadow": r => r.c.shadow && r.c.shadow.on,
};
const labels = { ...names, "all": "all", "unasked": "not asked for", "lately": "failing lately", "shadow": "shadow" };

const byName = (a, b) => a.c.key < b.c.key ? -1 : a.c.key > b.c.key ? 1 : a.id - b.id;
const orders = {
  trouble: (a, b) => a.rank - b.rank || byName(a, b),
  name: byName,
  refusals: (a, b) => b.c.refusals - a.c.refusals || byName(a, b),
  failures: (a, b) => b.c.failed_calls - a.c.failed_calls || byName(a, b),
};

let scheduled = false;

function schedule() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => { scheduled = false; render(); });
}

function render() {
  const tally = { bad: 0, spared: { "open": 0, "half-open": 0 } };
  for (const state in isOf) tally[state] = 0;
  for (const r of rows.values()) {
    if (r.dirty || !r.sums) sum(r);
    for (const state in isOf) if (isOf[state](r)) tally[state]++;
    if (r.kind === "forced-closed" && fails(r)) tally.bad++;
    if (r.unasked) tally.spared[r.kind]++;
  }
  showTally(tally);
  if (held()) { // rows do not move under a finger
    for (const r of onPage) if (r.c && (r.dirty || r.slot !== slotNow())) update(r);
    return tick();
  }
  const wanted = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  matched = [...rows.values()].filter(r => isOf[shown](r) && wanted.every(w => r.text.includes(w))).sort(orders[$("sort").value]);
  const pages = Math.max(1, Math.ceil(matched.length / perPage));
  page = Math.min(page, pages - 1);
  const here = matched.slice(page * perPage, (page + 1) * perPage);

  const focused = document.activeElement;
  const body = document.querySelector("#circuits tbody");
  onPage = here;
  for (const r of here) if (!r.node) make(r);
  place(body, here.flatMap(r => [r.node, r.detail]));
  for (const r of here) if (r.dirty || r.slot !== slotNow()) update(r);
  if (focused && focused !== document.activeElement && focused.isConnected && !focused.hidden) focused.focus({ preventScroll: true });

  $("circuits").hidden = here.length === 0;
  $("none").hidden = here.length > 0;
  set($("none"), !complete ? "Loading…" : rows.size === 0 ? "No circuit yet: one is made at the first request to an upstream." : "No circuit matches.");
  $("pages").hidden = pages === 1;
  set($("page"), "page " + (page + 1) + " of " + pages + ", " + plural(matched.length, "circuit", "circuits"));
  $("back").disabled = page === 0;
  $("on").disabled = page === pages - 1;
  tick();
}

// place makes nodes the children of a parent, in this order, and moves as few of those that are there as it can: one that is
// moved loses what is selected in it.
function place(parent, nodes) {
  const at = new Map([...parent.children].map((node, i) => [node, i]));
  const wanted = new Set(nodes);
  for (const node of at.keys()) if (!wanted.has(node)) node.remove();
  const here = nodes.filter(node => at.has(node));
  const best = []; // of each of them: how many up to it are in order, and which is the one before
  let last = null;
  here.forEach((node, i) => {
    let of = { node, n: 1, before: null };
    for (let j = 0; j < i; j++) {
      if (at.get(best[j].node) < at.get(node) && best[j].n >= of.n) of = { node, n: best[j].n + 1, before: best[j] };
    }
    best.push(of);
    if (!last || of.n > last.n) last = of;
  });
  const stay = new Set();
  for (; last; last = last.before) stay.add(last.node);
  let next = null;
  for (const node of nodes.toReversed()) {
    if (!stay.has(node)) parent.insertBefore(node, next);
    next = node;
  }
}

let pressed = 0; // since when a pointer is, and 0 if none is

const held = () => pressed > 0 && Date.now() - pressed < 10000; // not each tells when it is let go

addEventListener("pointerdown", () => { pressed = Date.now(); }, true);
for (const type of ["pointerup", "pointercancel", "blur"]) {
  addEventListener(type, () => {
    pressed = 0;
    schedule(); // after the click that it makes
  });
}

function showTally(tally) {
  const group = $("tally");
  if (!group.firstChild) {
    for (const state in isOf) {
      const b = el("button", { type: "button", "data-state": state, "aria-pressed": "false" }, el("strong"), el("span", {}, labels[state]));
      b.addEventListener("click", () => { shown = state; page = 0; schedule(); });
      group.append(b);
    }
    attr(group.querySelector("[data-state=unasked]"), "title", "open or half-open, and nobody has asked for " + Math.round(head.asked_seconds / 60) + " minutes: whether the upstream is still out, the next request will tell");
    attr(group.querySelector("[data-state=lately]"), "title", "closed, and with failed or refused calls in the last minute");
  }
  for (const b of group.children) {
    const state = b.dataset.state;
    set(b.firstChild, count(tally[state]));
    attr(b, "aria-pressed", String(state === shown));
    b.classList.toggle("some", tally[state] > 0);
  }
  const bad = tally["open"] + tally["half-open"] - tally["unasked"] + tally["forced-open"] + tally.bad;
  const words = ["open", "half-open", "unasked", "forced-open", "forced-closed", "lately"].filter(state => tally[state] > 0)
    .map(state => ({ state, text: count(tally[state]) + " " + labels[state] }));
  if (rows.size && tally["closed"] === rows.size) words.unshift({ state: "closed", text: "all closed" });
  words.forEach((word, i) => { if (i + 1 < words.length) word.text += ", "; });
  list($("verdict"), complete ? words : [], word => word.state, word => el("span", { class: word.state }), (e, word) => {
    set(e, word.text);
    if (word.state in tally.spared) attr(e, "class", tally[word.state] > tally.spared[word.state] ? word.state : "unasked");
    if (word.state === "forced-closed") attr(e, "class", tally.bad ? "forced-closed failing" : "forced-closed");
  });
  document.title = bad ? "(" + bad + ") Fusebox" : "Fusebox";
}

// ---- a row

function cell(name, ...children) { return el("td", { role: "cell", class: name }, ...children); }

let made = 0;

function make(r) {
  const p = r.parts = {};
  p.icon = svg("path");
  p.state = el("span");
  p.badge = el("span", { class: "badge" }, svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, p.icon), p.state);
  p.shadow = el("span", { class: "shadow" }, "shadow");
  p.key = el("strong", { class: "name" });
  p.cause = el("small");
  p.since = el("span", { class: "big" });
  p.at = el("small");
  p.good = svg("path", { class: "good" });
  p.failed = svg("path", { class: "failed" });
  p.refused = svg("path", { class: "refused" });
  p.strip = svg("svg", { class: "strip", viewBox: "0 0 240 36", preserveAspectRatio: "none", role: "img" },
    svg("path", { class: "base", d: "M0 18h240" }), p.good, p.failed, p.refused);
  p.next = el("span", { class: "big" });
  p.nextMore = el("small");
  p.meter = svg("rect", { width: "0", height: "4" });
  p.meterBox = svg("svg", { class: "meter", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" }, svg("rect", { class: "rest", width: "100", height: "4" }), p.meter);
  p.get = el("span", { class: "big" });
  p.getMore = el("small");
  const id = "detail-" + ++made;
  p.more = el("button", { type: "button", class: "more", "aria-expanded": "false", "aria-controls": id },
    svg("svg", { viewBox: "0 0 16 16", "aria-hidden": "true" }, svg("path", { d: "M5 3l6 5-6 5" })));
  p.more.addEventListener("click", () => {
    if (!open.delete(r.c.key)) open.add(r.c.key);
    update(r);
    tick();
  });
  r.node = el("tr", { role: "row" }, cell("state", p.badge, p.shadow), cell("key", p.key, p.cause), cell("since", p.since, p.at),
    cell("bars", p.strip), cell("next", p.next, p.meterBox, p.nextMore), cell("callers", p.get, p.getMore), cell("open-it", p.more));
  p.detail = el("div", { class: "detail" });
  r.detail = el("tr", { role: "row", class: "details", id: id, hidden: "" }, el("td", { role: "cell", colspan: "7" }, p.detail));
  r.dirty = true;
}

function update(r) {
  const c = r.c, p = r.parts;
  sum(r);
  const is = r.kind;
  r.slot = slotNow();
  attr(r.node, "data-key", c.key);
  attr(r.node, "data-kind", is);
  attr(p.badge, "class", "badge " + is);
  attr(p.icon, "d", icons[is]);
  set(p.state, names[is]);
  p.shadow.hidden = !(c.shadow && c.shadow.on);
  set(p.key, c.key);
  attr(p.key, "title", c.key);
  const [get, more] = callers(r);
  set(p.get, get);
  set(p.getMore, more);
  attr(p.get, "class", "big " + (get === "refusals" || get === "failures" ? "bad" : get === "through" || get === "nobody asks" ? "" : "some"));
  attr(p.more, "aria-label", "Details of " + c.key);
  strip(r, p);

  const expanded = open.has(c.key);
  attr(p.more, "aria-expanded", String(expanded));
  r.detail.hidden = !expanded;
  if (expanded) detail(r);
  r.dirty = false;
}

// strip draws good calls upward and bad ones downward, by the root of their number, so that one failure in a thousand
// calls can be seen.
function strip(r, p) {
  const last = slotNow(), first = last - head.bars + 1, width = 240 / head.bars;
  const most = Math.max(4, ...r.bars.map(b => Math.max(b[1], b[2] + b[3])));
  const high = n => n === 0 ? 0 : Math.max(2, Math.sqrt(n / most) * 17);
  const box = (slot, y, h) => h > 0 ? "M" + ((slot - first) * width + 0.4).toFixed(1) + " " + y.toFixed(1) + "h" + (width - 0.8).toFixed(1) + "v" + h.toFixed(1) + "h-" + (width - 0.8).toFixed(1) + "z" : "";
  let good = "", failed = "", refused = "";
  for (const [slot, g, f, n] of r.bars) {
    if (slot < first || slot > last) continue;
    const down = high(f + n), f1 = f === 0 ? 0 : n === 0 ? down : Math.min(down - 1, Math.max(2, down * f / (f + n)));
    good += box(slot, 18 - high(g), high(g));
    failed += box(slot, 18, f1);
    refused += box(slot, 18 + f1, down - f1);
  }
  attr(p.good, "d", good);
  attr(p.failed, "d", failed);
  attr(p.refused, "d", refused);
  attr(p.strip, "aria-label", "Last five minutes: " + tell(r.sums));
}

function tell(s) {
  const good = head.good_calls ? count(s.good) + " good, " : "";
  return good + count(s.failed) + " failed, " + count(s.refused) + " refused";
}

// list brings the children of a parent in line with items: the child of each, by its key, is made once.
function list(parent, items, keyOf, make, update) {
  const have = parent.listed || new Map(), now = parent.listed = new Map();
  for (const item of items) {
    let key = keyOf(item);
    while (now.has(key)) key += " again";
    const node = have.get(key) || make(item);
    if (update) update(node, item);
    now.set(key, node);
  }
  place(parent, [...now.values()]);
}

function makeDetail(r) {
  const p = r.parts, d = p.inside = {};
  const head = ["Cause", "Times", "Last", "Trace"].map(name => el("th", { scope: "col" }, name));
  d.samples = el("tbody");
  d.sampled = el("table", { class: "inner" }, el("thead", {}, el("tr", {}, ...head)), d.samples);
  d.noSample = el("p", { class: "none" });
  d.changes = el("ol", { class: "changes" });
  d.noChange = el("p", { class: "none" }, "It has not changed since this dashboard is there.");
  d.numbers = el("dl");
  d.lately = el("p", { class: "none" });
  d.settings = el("dl");
  d.buttons = el("div", { class: "buttons" });
  d.acts = el("section", { class: "acts" }, el("h3", {}, "Override"), d.buttons);
  p.detail.append(
    el("section", { class: "failures" }, el("h3", {}, "Last failures"), d.sampled, d.noSample),
    el("section", {}, el("h3", {}, "Last changes"), d.changes, d.noChange),
    el("section", {}, el("h3", {}, "Since it was made"), d.numbers, d.lately),
    el("section", { class: "settings" }, el("h3", {}, "Settings"), d.settings), d.acts);
  for (const [what, label] of [["open", "Force open"], ["closed", "Force closed"], ["release", "Back to automatic"], ["reset", "Reset"]]) {
    const b = el("button", { type: "button", "data-do": what }, label + "…");
    b.addEventListener("click", () => ask(what, what === "release" ? r.c.forced_by || patternOf(r.c.key) : patternOf(r.c.key)));
    d.buttons.append(b);
  }
}

function detail(r) {
  const c = r.c, p = r.parts;
  if (!p.inside) makeDetail(r);
  const d = p.inside;
  d.sampled.hidden = c.samples.length === 0;
  d.noSample.hidden = c.samples.length > 0;
  const restored = c.transitions.some(t => t.reason === "restored") || c.state !== "closed" && c.trips === 0;
  set(d.noSample, restored ? "None since it was restored." : "No call has failed.");
  list(d.samples, c.samples, s => s.cause, () => el("tr", {}, el("td"), el("td", { class: "n" }), el("td"), el("td", { class: "mono" })), (row, s) => {
    [s.cause, count(s.count), clock(s.at), s.trace || "–"].forEach((text, i) => set(row.children[i], text));
  });
  d.changes.hidden = c.transitions.length === 0;
  d.noChange.hidden = c.transitions.length > 0;
  list(d.changes, c.transitions, t => [t.at, t.from, t.to, t.reason].join(" "), t => el("li", {},
    el("time", { datetime: t.at }, clock(t.at)), el("span", { class: "to " + t.to }, t.from === t.to ? t.to : t.from + " → " + t.to),
    el("span", {}, [t.reason, t.cause, t.why || (t.failures + t.successes > 0 ? t.failures + " failed, " + t.successes + " good" : ""), t.shadow ? "in shadow" : ""].filter(Boolean).join("; "))));
  const numbers = [["failed calls", c.failed_calls], ["refusals", c.refusals], ["probes and ramp", c.probes], ["trips", c.trips], ["ignored calls", c.ignored_calls], ["late calls", c.late_calls]];
  if (c.shadow) numbers.push(["in shadow: would be refused", c.shadow.refused], ["of these good", c.shadow.succeeded], ["of these failed", c.shadow.failed]);
  if (c.shadow && c.shadow.throttled) numbers.push(["of these answered 429", c.shadow.turned_away || 0], ["by a throttle, which cannot know in shadow", c.shadow.throttled]);
  if (c.throttle) numbers.push(["refused by the throttle since " + clock(c.throttle.since), c.throttle.refused]);
  list(d.numbers, numbers, ([name]) => name, ([name]) => el("div", {}, el("dt", {}, name), el("dd")), (row, [, n]) => set(row.lastChild, count(n)));
  set(d.lately, "Last 5 minutes: " + tell(r.sums));
  list(d.settings, settings(c), ([name]) => name, ([name]) => el("div", {}, el("dt", {}, name), el("dd")), (row, [, text]) => set(row.lastChild, text));
  d.acts.hidden = !head.actions;
  const focused = document.activeElement;
  for (const b of d.buttons.children) {
    const what = b.dataset.do;
    b.hidden = what === "release" ? !c.forced : what === "reset" ? c.forced : c.forced && c.state === what;
  }
  if (d.buttons.contains(focused) && focused.hidden) d.buttons.querySelector("button:not([hidden])").focus({ preventScroll: true });
}

// settings says by what a circuit goes, and what of it is its key's own.
function settings(c) {
  const own = name => (c.own || []).includes(name);
  return [
    ["policy", c.policy + (own("policy") ? ", of this key" : ", of all keys")],
    ["classifier", own("classifier") ? "of this key, then of all keys" : "of all keys"],
    ["refusal", own("refusal") ? "of this key" : "of all keys"],
  ];
}

// upcoming says what comes next for an open circuit, and which share of the wait is over; -1 if that is not known.
function upcoming(r, at) {
  const c = r.c, due = Date.parse(c.next_probe) - at, n = c.probe_requests;
  if (c.in_flight > 0) return ["probe under way", "its outcome decides", -1];
  if (waits(c, at)) return [waits(c, at), "at most until " + clock(c.safe_probe_until), -1];
  const first = clock(c.probe_latest || c.next_probe);
  if (n > 1 && at < Date.parse(c.probe_latest)) { // the policy counts requests
    const rate = requestRate(r, at), eta = Math.max(due, n / rate * 1000), share = 1 - n / Math.max(1, r.probe.most);
    if (rate === 0) return ["next probe from " + first + " on", "with the first request; none comes now", -1];
    return ["next probe in " + plural(n, "request", "requests"),
      at + eta < Date.parse(c.probe_latest) ? "about " + coarse(Math.max(1000, Math.round(eta / 1000) * 1000)) + " at this rate" : "or the first one from " + first + " on", share];
  }
  if (due > 0) return ["next probe in " + duration(due), "at " + clock(c.next_probe), 1 - due / Math.max(1, Date.parse(c.next_probe) - r.probe.from)];
  return ["next probe is due", "with the next request", -1];
}

// waits says what a circuit that is due for a probe waits for, if it does.
const waits = (c, at) => at < Date.parse(c.safe_probe_until) ? "waits for a request that can be lost" : "";

// requestRate returns how many requests come a second, by the bars of the last half minute; 0 if none does, or none after
// three times as long as they were apart. In shadow they are not refused, but made.
function requestRate(r, at) {
  const width = head.bar_seconds * 1000, from = Math.max(Math.floor((at - 30000) / width) * width, Date.parse(r.c.since) || 0);
  let n = 0, last = 0;
  for (const [slot, good, failed, refused] of r.bars) {
    const came = refused + (r.c.shadow && r.c.shadow.on ? good + failed : 0), end = (slot + 1) * width;
    if (came === 0 || end <= from) continue;
    n += came;
    last = Math.max(last, end);
  }
  const lasted = Math.max(1000, Math.min(last, at) - from);
  return at - last > Math.max(width, 3 * lasted / n) ? 0 : n * 1000 / lasted;
}

// tick brings what depends on the time alone up to date.
function tick() {
  const at = now();
  for (const r of onPage) {
    if (!r.node) continue;
    const c = r.c, p = r.parts;
    const out = c.trouble && !c.forced && !r.unasked, from = out ? c.trouble : r.unasked ? c.asked || c.since : c.since;
    set(p.since, from ? coarse(at - Date.parse(from)) : "");
    set(p.at, from ? (out ? "out " : r.unasked ? "not asked " : "") + "since " + clock(from) : "no change yet");
    attr(p.since, "class", "big" + (out ? " bad" : ""));
    const recent = c.failed_at && (c.state !== "closed" || at - Date.parse(c.failed_at) < 600000);
    set(p.cause, c.throttle ? "throttled: " + c.throttle.why : recent ? c.cause + ", " + coarse(at - Date.parse(c.failed_at)) + " ago" : "");
    let next = "", more = "", share = -1;
    if (c.forced) {
      next = "until released";
      more = c.forced_by === patternOf(c.key) ? "override of this circuit" : "override " + c.forced_by;
    } else if (c.state === "open") {
      [next, more, share] = upcoming(r, at);
    } else if (c.state === "half-open") {
      next = c.in_flight + " of " + c.limit + " in flight";
      more = c.successes + " good, " + c.failures + " failed so far";
      share = c.limit ? c.in_flight / c.limit : 0;
      if (waits(c, at)) {
        next = waits(c, at);
        more = "at most until " + clock(c.safe_probe_until) + "; " + more;
      }
    } else if (c.throttle) {
      next = c.throttle.in_flight > 0 ? c.throttle.in_flight + " in flight may go" + (c.throttle.per_second > 0 ? ", about " + c.throttle.per_second + " a second" : "") : "what would not be late goes";
      more = "throttled since " + clock(c.throttle.since) + "; all from " + clock(c.throttle.until) + " on if it does not repeat";
    } else if (c.trip > 0) {
      next = c.evidence > 0 ? "trips at " + c.trip : "";
      more = c.evidence > 0 ? "evidence is " + c.evidence : "no evidence of trouble";
      share = c.evidence > 0 ? c.evidence / c.trip : -1;
    } else {
      more = c.failures > 0 ? plural(c.failures, "failure", "failures") + " in view" : "no failure in view";
    }
    set(p.next, next);
    set(p.nextMore, more);
    p.meterBox.classList.toggle("hide", share < 0);
    attr(p.meter, "width", String(Math.round(Math.min(1, Math.max(0, share)) * 100)));
    attr(p.meter, "class", "fill " + r.kind);
  }
}

// ---- overrides and actions

// patternOf is transport.Key.Pattern, and matches what transport.Force makes of a pattern.
const patternOf = key => key.replace(/[\\*]/g, "\\$&");

// escapes is what the escapes in the text of a key go on with: in a pattern they stand as they are.
const escapes = "abfnrtvxuU";

function matches(pattern, text) {
  const parts = [""];
  for (let i = 0; i < pattern.length; i++) {
    if (pattern[i] === "*") parts.push("");
    else parts[parts.length - 1] += pattern[i] === "\\" && i + 1 < pattern.length && !escapes.includes(pattern[i + 1]) ? pattern[++i] : pattern[i];
  }
  if (parts.length === 1) return parts[0] === text;
  if (!text.startsWith(parts[0])) return false;
  text = text.slice(parts[0].length);
  for (const part of parts.slice(1, -1)) {
    const at = text.indexOf(part);
    if (at < 0) return false;
    text = text.slice(at + part.length);
  }
  return text.endsWith(parts[parts.length - 1]);
}

// visible is what transport.Force makes of a pattern: what cannot be seen in it is escaped, as in a key.
function visible(pattern) {
  return pattern.replace(/[\p{C}\p{Z}\p{Default_Ignorable_Code_Point}\u2800]/gu, c => {
    const n = c.codePointAt(0), short = "\x07\b\f\n\r\t\v".indexOf(c), hex = n.toString(16);
    if (c === " ") return c;
    if (short >= 0) return "\\\\" + "abfnrtv"[short];
    return "\\\\" + (n < 0x80 ? "x" + hex.padStart(2, "0") : n > 0xffff ? "U" + hex.padStart(8, "0") : "u" + hex.padStart(4, "0"));
  });
}

const matching = pattern => [...rows.values()].filter(r => matches(pattern, r.c.key));

function showHead() {
  $("by-pattern").hidden = !head.actions;
  set($("strip-title"), "Last " + Math.round(head.bars * head.bar_seconds / 60) + " minutes");
  document.querySelector("#legend .good").hidden = !head.good_calls;
  $("overrides").hidden = head.overrides.length === 0;
  list(document.querySelector("#overrides ul"), head.overrides, o => [o.pattern, o.state, o.at].join(" "), o => {
    const b = el("button", { type: "button", "aria-label": "Back to automatic: " + o.pattern }, "Back to automatic…");
    b.addEventListener("click", () => ask("release", o.pattern));
    return el("li", {}, el("span", { class: "badge forced-" + o.state }, "forced " + o.state), el("code", {}, o.pattern), el("small", {}, "since " + clock(o.at)), b);
  }, item => { item.lastChild.hidden = !head.actions; });
  $("more-overrides").hidden = !head.more_overrides;
  set($("more-overrides"), "and " + plural(head.more_overrides || 0, "older one", "older ones"));
  const local = head.local_trouble;
  $("local").hidden = !local;
  if (local) {
    set($("local"), "The trouble is most likely on this side (network, resolver, a busy machine): " + local.tripped + " upstreams began to fail together at " +
      clock(local.since) + ", and " + local.well + (local.well === 1 ? " other is" : " others are") + " well.");
  }
  $("recent").hidden = head.recent_actions.length === 0;
  const done = { open: "forced open", closed: "forced closed", release: "back to automatic", reset: "reset" };
  list(document.querySelector("#recent ol"), head.recent_actions, a => [a.at, a.do, a.pattern, a.remote].join(" "), a => el("li", {}, el("time", { datetime: a.at }, clock(a.at)),
    el("span", {}, done[a.do] + ": "), el("code", {}, a.pattern), el("span", {}, ", " + (a.stage === "done" ? plural(a.matched, "circuit", "circuits") : a.stage + (a.why ? " (" + a.why + ")" : "")) + ", by " + (a.user ? a.user + " at " : "") + a.remote)));
  for (const r of rows.values()) r.dirty = true;
}

const asks = {
  open: ["Force open?", "Force open", "Every request is refused, and nothing is probed, until somebody releases it. Circuits made later are included."],
  closed: ["Force closed?", "Force closed", "Every request is let through, whatever fails, until somebody releases it. Circuits made later are included."],
  release: ["Back to automatic?", "Back to automatic", "The override ends, and the rules decide again. A circuit that is open lets the next request try."],
  reset: ["Reset?", "Reset", "The circuit is as new: closed, with counts of zero. Those that are forced stay so."],
};

let asking = null, opener = null;

function ask(what, pattern) {
  pattern = visible(pattern);
  asking = { do: what, pattern: pattern };
  opener = document.activeElement;
  const [title, yes, text] = asks[what], n = matching(pattern).length;
  set($("confirm-title"), title);
  set($("confirm-pattern"), pattern);
  set($("confirm-text"), text);
  set($("confirm-matches"), "It matches " + plural(n, "circuit", "circuits") + " now.");
  set($("confirm-error"), "");
  set($("confirm-yes"), yes);
  attr($("confirm-yes"), "data-do", what);
  $("confirm").showModal();
  $("confirm-no").focus();
}

async function act() {
  $("confirm-yes").disabled = true;
  try {
    const answer = await fetch("action", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(asking) });
    if (!answer.ok) throw new Error("Not done: " + await refusal(answer));
    const done = await answer.json();
    if (done.matched === 0) {
      const later = done.do === "open" || done.do === "closed" ? " It is in force for circuits that are made later." : "";
      throw new Error((done.do === "release" ? "Nothing was forced by this pattern, or it matches no circuit." : "No circuit matches.") + later);
    }
    $("confirm").close();
    say(asks[done.do][1] + ": done for " + plural(done.matched, "circuit", "circuits") + ".");
  } catch (e) {
    set($("confirm-error"), e instanceof TypeError ? "Not done: the server cannot be reached." : e.message);
  } finally {
    $("confirm-yes").disabled = false;
  }
}

let saying;

function say(text) {
  set($("said"), text);
  $("said").classList.add("on");
  clearTimeout(saying);
  saying = setTimeout(() => { $("said").classList.remove("on"); set($("said"), ""); }, 6000);
}

function preview() {
  const pattern = visible($("pattern-text").value), all = pattern ? matching(pattern) : [];
  set($("pattern-matches"), !pattern ? "" : "It matches " + plural(all.length, "circuit", "circuits") + " now" +
    (all.length ? ": " + all.slice(0, 3).map(r => r.c.key).join(", ") + (all.length > 3 ? ", …" : "") : "") + ".");
  $("pattern-yes").disabled = !pattern;
}

$("confirm").addEventListener("close", () => {
  if (document.activeElement !== document.body && !$("confirm").contains(document.activeElement)) return;
  const near = opener !== document.body && opener.isConnected && opener.parentElement.querySelector("button:not([hidden])"); // it has gone, since what it does is done
  (near || $("circuits")).focus({ preventScroll: true });
});
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm-yes").addEventListener("click", act);
$("by-pattern").addEventListener("click", () => { $("pattern").showModal(); $("pattern-text").focus(); preview(); });
$("pattern-text").addEventListener("input", preview);
$("pattern-text").addEventListener("keydown", e => { if (e.key === "Enter" && !$("pattern-yes").disabled) { e.preventDefault(); $("pattern-yes").click(); } });
$("pattern-no").addEventListener("click", () => $("pattern").close());
$("pattern-yes").addEventListener("click", () => {
  $("pattern").close();
  ask(document.querySelector("#pattern-do input:checked").value, $("pattern-text").value);
});
$("tools").addEventListener("submit", e => e.preventDefault());
$("filter").addEventListener("input", () => { page = 0; schedule(); });
$("sort").addEventListener("change", () => { page = 0; schedule(); });
$("back").addEventListener("click", () => { page--; schedule(); });
$("on").addEventListener("click", () => { page++; schedule(); });
document.addEventListener("keydown", e => {
  if (e.key === "/" && !/^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName)) {
    e.preventDefault();
    $("filter").focus();
  }
});

setInterval(() => {
  const silent = Date.now() - heard;
  if (!looking && silent > (complete ? 25000 : 5000)) {
    live("lost", "connection lost, trying again");
    connect();
    look(); // what holds the stream back may let this through
  }
  if (onPage.some(r => r.slot !== slotNow())) {
    for (const r of rows.values()) r.dirty = true; // what was lately is no more
    schedule();
  } else tick();
}, 500);

connect();
schedule();
