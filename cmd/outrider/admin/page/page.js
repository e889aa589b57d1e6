// Asks /status each second and /history every five, and shows the answers. What comes from there goes in as text, never as
// markup, and nothing is ever sent.
"use strict";

const statusInterval = 1000; // ms
const historyInterval = 5000;
const patience = 5000; // an answer is made from memory
const hour = 3600 * 1000;

// Not a relative address: fetch refuses one that inherits a user and a password from the address of the page.
const base = new URL(".", location.origin + location.pathname);

let instance; // the process that answers; another one has another history
let samples = []; // of the last hour, the oldest first
let slotFullSeconds = null;
let recent = []; // how many records were delivered when, for a rate that follows at once
let heard; // when it last answered

const at = (id) => document.getElementById(id);

// ---- asking

async function get(path) {
  const answer = await fetch(new URL(path, base), { cache: "no-store", signal: AbortSignal.timeout(patience) });
  if (answer.ok) return answer.json();
  const error = new Error(`it answers ${answer.status}: ${(await answer.text()).trim()}`);
  error.final = answer.status === 401; // asking again would make the browser ask its user, each second
  throw error;
}

async function watch() {
  let historyDue = 0;
  for (;;) {
    try {
      const status = await get("status");
      heard = new Date();
      if (status.instance !== instance) {
        [instance, samples, recent, historyDue] = [status.instance, [], [], 0];
      }
      showStatus(status);
      if (performance.now() >= historyDue) {
        historyDue = performance.now() + historyInterval;
        const history = await get(`history?after=${samples.at(-1)?.number ?? 0}`);
        samples = samples.concat(history.samples);
        samples = samples.filter((s) => Date.parse(samples.at(-1).at) - Date.parse(s.at) <= hour);
        slotFullSeconds = history.slot_full_seconds;
        showHistory(status);
      }
      at("trouble").hidden = true;
      text("freshness", `Updated ${clock(heard)}`);
    } catch (error) {
      showSilence(error);
      if (error.final) return;
    }
    await new Promise((done) => setTimeout(done, statusInterval));
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
  }
}

// ---- saying things

// text leaves alone what says so already: a screen reader would read it out again.
function text(id, words) {
  const node = at(id);
  if (node.textContent !== words) node.textContent = words;
}

function element(name, words, className) {
  const node = document.createElement(name);
  node.textContent = words ?? "";
  if (className) node.className = className;
  return node;
}

function rows(id, lines, numbers) {
  at(id).replaceChildren(...lines.map((line) => {
    const row = element("tr");
    line.forEach((words, i) => {
      const cell = element(i === 0 ? "th" : "td", words, i >= numbers ? "number" : "");
      if (i === 0) cell.scope = "row";
      row.append(cell);
    });
    return row;
  }));
}

const count = (n) => Math.round(n).toLocaleString("en-US");
const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : count(n));
const clock = (t) => new Date(t).toLocaleTimeString("en-GB");

function moment(t) {
  const day = new Date(t).toLocaleDateString("sv-SE"); // year-month-day
  return day === new Date().toLocaleDateString("sv-SE") ? clock(t) : `${day} ${clock(t)}`;
}

function bytes(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i === 0 || n >= 100 ? count(n) : n.toFixed(1)} ${units[i]}`;
}

function seconds(s) {
  if (s === 0) return "0 s";
  if (s < 1) return `${(s * 1000).toPrecision(s < 0.01 ? 2 : 3)} ms`.replace(".0 ", " ");
  if (s < 100) return `${s.toFixed(1)} s`;
  if (s < 100 * 60) return `${count(s / 60)} min`;
  if (s < 48 * 3600) return `${(s / 3600).toFixed(1)} h`;
  return `${count(s / 86400)} days`;
}

// ---- the present

function showStatus(status) {
  const { state, postgres } = status;
  document.documentElement.dataset.state = state;
  document.title = `${status.name}: ${state}`;
  text("name", status.name);
  text("state", state);
  text("reason", status.verdict ? "" : status.reason);
  text("since", `${moment(status.since)}, ${seconds((Date.now() - Date.parse(status.since)) / 1000)} ago`);
  at("since").dateTime = status.since;
  showVerdict(status);

  text("lag", state === "standby" ? "–" : seconds(status.lag_seconds));
  text("lag-note", state === "standby" ? "known to the relay that has the slot" : `of the oldest commit that is not acked; ${bytes(postgres.lag_bytes)} of WAL`);
  text("rate", rate(presentRate(status)));

  text("relayed", `${count(status.records.relayed)} records`);
  text("in-flight", `${count(status.in_flight.records)} records, ${bytes(status.in_flight.bytes)}`);
  text("skipped", count(status.records.skipped_duplicates));
  text("poison", count(status.records.poison));
  const ends = Object.entries(status.sessions).map(([end, n]) => `${count(n)} ${end}`);
  text("sessions", ends.sort().join(", ") || "none");
  text("delivery", status.delivery);
  text("instance", status.instance);
  text("version", status.version);

  showSlot(status);
  showPositions(status.lsn);
  const topics = Object.entries(status.topics ?? {}).sort(([a, x], [b, y]) => y.records - x.records || (a < b ? -1 : 1));
  at("no-topics").hidden = topics.length > 0;
  at("topics-table").hidden = topics.length === 0;
  rows("topics", topics.map(([name, topic]) => [name, count(topic.records), bytes(topic.bytes)]), 1);
  showErrors(status.errors ?? []);
}

function presentRate(status) {
  recent.push({ t: performance.now(), records: status.records.relayed });
  if (recent.length > 6) recent.shift();
  const [first, last] = [recent[0], recent.at(-1)];
  return last.t > first.t ? ((last.records - first.records) * 1000) / (last.t - first.t) : 0;
}

function showVerdict({ verdict }) {
  at("verdict").hidden = !verdict;
  if (!verdict) return;
  text("verdict-heading", `What to do about it: ${verdict.case}`);
  text("verdict-reason", verdict.reason);
  const advice = at("verdict-advice");
  if (advice.dataset.shown === verdict.advice) return; // and whoever is about to press a button still can
  advice.dataset.shown = verdict.advice;
  // The advice holds the command of each option, complete with what it is about: an LSN, or an event's position.
  const parts = verdict.advice.split(/(outrider resolve --name \w+ --[a-z-]+(?: LSN| [\w:]*[:/][\w:/]*)?)/);
  advice.replaceChildren(...parts.filter(Boolean).map((part) => (part.startsWith("outrider resolve ") ? commandOf(part) : element("p", part.replace(/^, /, "")))));
}

function commandOf(command) {
  const line = element("div", "", "command");
  const code = element("code", command);
  const button = element("button", "Copy");
  button.setAttribute("aria-label", `Copy ${command}`);
  button.addEventListener("click", () => copy(code, button));
  line.append(code, button);
  return line;
}

// copy selects at least: over plain HTTP off loopback a browser lets no script near the clipboard.
async function copy(code, button) {
  getSelection().selectAllChildren(code);
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Selected";
  }
}

const slotStatus = {
  reserved: "all of its WAL is there",
  extended: "beyond max_wal_size, kept for the slot",
  unreserved: "about to be given up: WAL is past the limit",
  lost: "lost: WAL that it needs is gone",
};

function showSlot({ state, postgres }) {
  // A standby looks at who has the slot, and at nothing else of it.
  const known = postgres.slot_status && state !== "standby";
  const { retained_bytes: retained, safe_bytes: safe } = postgres;
  text("slot", known ? `${postgres.slot}: ${slotStatus[postgres.slot_status] ?? postgres.slot_status}; ${postgres.slot_active ? "active" : "not active"}` : postgres.slot || "–");
  text("retained", known ? bytes(retained) : "–");
  text("server", postgres.version ? `PostgreSQL ${postgres.version}, timeline ${postgres.timeline}, system ${postgres.system_id}` : "–");
  const limited = known && safe !== undefined;
  at("allowance").hidden = !limited;
  if (!limited) {
    text("safe", known ? "no limit" : "–");
    text("full", known ? "never" : "–");
    text("allowance-text", known ? "max_slot_wal_keep_size sets no limit: a slot that is not read from keeps WAL until the disk is full." : "");
    return;
  }
  const used = Math.min(100, (100 * retained) / Math.max(1, retained + Math.max(0, safe)));
  const meter = at("allowance");
  meter.dataset.level = used >= 90 ? "full" : used >= 60 ? "high" : "low";
  meter.setAttribute("aria-valuenow", used.toFixed(0));
  meter.setAttribute("aria-valuetext", `${used.toFixed(0)} % of the allowance is used`);
  at("allowance-bar").style.width = `${used}%`;
  text("allowance-text", `${used.toFixed(0)} % of the WAL that the slot may hold back (max_slot_wal_keep_size)`);
  text("safe", bytes(Math.max(0, safe)));
  text("full", slotFullSeconds === null ? "not in sight" : `${seconds(slotFullSeconds)} at the present rate`);
}

function showPositions(lsn) {
  const number = (l) => l.split("/").reduce((n, half) => (n << 32n) + BigInt(`0x${half}`), 0n);
  const server = number(lsn.server);
  const words = [["server", "Server"], ["received", "Received"], ["acked", "Acked"], ["stored", "Stored"], ["confirmed", "Confirmed"]];
  rows("lsn", words.map(([kind, name]) => {
    if (lsn[kind] === "0/0") return [name, "–", ""]; // not known, or not this relay's
    return [name, lsn[kind], kind === "server" ? "" : bytes(Number(server - number(lsn[kind])))];
  }), 2);
}

function showErrors(errors) {
  at("no-errors").hidden = errors.length > 0;
  at("errors").replaceChildren(...errors.map((error) => {
    const item = element("li");
    const times = error.times > 1 ? `, ${count(error.times)} times in a row` : "";
    item.append(element("p", `${moment(error.at)}, ${error.class}${times}`, "head"), element("p", error.message));
    return item;
  }));
}

function showSilence(error) {
  document.documentElement.dataset.state = "silent";
  document.title = "No answer from the relay";
  text("state", "no answer");
  text("reason", "");
  const since = heard ? ` What is shown is from ${moment(heard)}.` : "";
  const advice = error.final ? "Reload the page to enter the token." : "It is asked again each second.";
  text("trouble", `The relay does not answer (${error.message}).${since} ${advice}`);
  at("trouble").hidden = false;
}

// ---- the last hour

const ackP99 = (s) => s.commit_to_ack_seconds?.p99 ?? null;

function showHistory(status) {
  // One that has stood by for the whole hour has nothing to draw.
  document.documentElement.dataset.idle = status.state === "standby" && !samples.some((s) => s.commit_to_ack_seconds);
  const acked = samples.slice(-12).map((s) => s.commit_to_ack_seconds).filter(Boolean).at(-1);
  text("ack", acked ? seconds(acked.p99) : "–");
  text("ack-note", acked ? `99 % of batches took at most this, half of them ${seconds(acked.p50)}` : "nothing was acked in the last minute");
  plot("lag", (s) => (s.state === "standby" ? null : s.lag_seconds), seconds, "Lag");
  plot("rate", (s) => (s.state === "standby" ? null : s.events_per_second), (n) => `${rate(n)} /s`, "Throughput");
  plot("ack", ackP99, seconds, "Commit to ack");
  showSlot(status);
  showHour();
}

// showHour tells the hour in words, and in lines of five minutes.
function showHour() {
  const span = 5 * 60 * 1000;
  const groups = Map.groupBy(samples, (s) => Math.floor(Date.parse(s.at) / span) * span);
  const most = (list, value) => Math.max(...list.map(value).filter((v) => v !== null));
  const orDash = (n) => (Number.isFinite(n) ? seconds(n) : "–");
  rows("hour", [...groups].reverse().map(([from, list]) => [
    clock(from).slice(0, 5),
    [...new Set(list.map((s) => s.state))].join(", "),
    orDash(most(list, (s) => s.lag_seconds)),
    rate(list.reduce((sum, s) => sum + s.events_per_second, 0) / list.length),
    orDash(most(list, ackP99)),
  ]), 2);
  const times = Map.groupBy(samples, (s) => s.state);
  const shares = [...times].map(([state, list]) => `${state} for ${seconds((list.length * historyInterval) / 1000)}`);
  text("hour-summary", `Since ${clock(samples[0].at)} it was ${shares.join(", ")}.`);
}

function svg(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// plot draws one value of the samples over the hour, and says in a sentence what can be seen. A null is a gap.
function plot(id, value, unit, name) {
  const end = Date.parse(samples.at(-1).at);
  const points = samples.map((s) => ({ x: 1000 - (1000 * (end - Date.parse(s.at))) / hour, value: value(s), at: s.at }));
  const seen = points.filter((p) => p.value !== null);
  const most = seen.reduce((a, b) => (b.value > a.value ? b : a), { value: 0 });
  const top = most.value || 1;
  const y = (v) => (100 - (100 * v) / top).toFixed(2);
  let line = "", area = "", pen = false;
  points.forEach((p, i) => {
    if (p.value === null) { pen = false; return; }
    line += `${pen ? "L" : "M"}${p.x.toFixed(2)} ${y(p.value)}`;
    area += `${pen ? "L" : `M${p.x.toFixed(2)} 100L`}${p.x.toFixed(2)} ${y(p.value)}`;
    pen = true;
    if ((points[i + 1]?.value ?? null) === null) area += `L${p.x.toFixed(2)} 100Z`;
  });
  const summary = seen.length ? `Now ${unit(seen.at(-1).value)}; at most ${unit(most.value)}, at ${clock((most.at ? most : seen.at(-1)).at)}.` : "Nothing to show yet.";
  text(`${id}-summary`, summary);

  const drawing = svg("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none", role: "img", "aria-label": `${name} over the last hour. ${summary}` });
  const cursor = svg("path", { class: "cursor" });
  drawing.append(svg("path", { class: "grid", d: "M0 0H1000M0 50H1000M0 100H1000" }), svg("path", { class: "area", d: area }), svg("path", { d: line }), cursor);
  const label = element("span", "", "at");
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const x = (1000 * (event.clientX - box.left)) / box.width;
    const nearest = seen.reduce((a, b) => (Math.abs(b.x - x) < Math.abs(a.x - x) ? b : a), seen[0]);
    if (!nearest) return;
    cursor.setAttribute("d", `M${nearest.x} 0V100`);
    label.textContent = `${clock(nearest.at)}: ${unit(nearest.value)}`;
  });
  drawing.addEventListener("pointerleave", () => { cursor.removeAttribute("d"); label.textContent = ""; });
  at(`${id}-plot`).replaceChildren(drawing, element("span", unit(top), "most"), element("span", "an hour ago", "past"), element("span", "now", "now"), label);
}

watch();
