// The grid page's script: draws the figures and shows the card of the cell that was clicked.
// What comes from a model, a log or the configuration is set as text (textContent), not markup.
"use strict";

const grid = JSON.parse(document.getElementById("grid-data").textContent);
const plotOptions = { displaylogo: false, modeBarButtons: [["toImage"]] };
const cards = {}; // training cell -> its card, once loaded
const samples = {}; // cell -> its samples, once loaded
const shown = { model: null, mix: null, seed: null, benchmark: null, kind: "all", words: "" };
const byId = (id) => document.getElementById(id);

// What the side files call.
function receiveCard(name, card) { cards[name] = card; }
function receiveSamples(name, content) { samples[name] = content; }

function make(tag, text, attributes) {
  const element = document.createElement(tag);
  if (text !== undefined && text !== null) element.textContent = String(text);
  for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
  return element;
}

function fill(parent, ...children) {
  parent.replaceChildren(...children.filter(Boolean));
  return parent;
}

function choices(select, options, chosen) {
  fill(select, ...options.map(([value, label]) => make("option", label, { value })));
  select.value = chosen;
}

// Side files are scripts, as a page opened from a disk may load nothing else.
function load(store, name, then) {
  if (name in store) return then();
  const path = name.split("/").map(encodeURIComponent).join("/");
  const script = make("script", null, { src: "cells/" + path + ".js" });
  script.onload = script.onerror = () => { script.remove(); then(); };
  document.head.append(script);
}

// ---- the map ----

function drawMap() {
  const figure = grid.figures[byId("benchmark").value];
  return Plotly.react(byId("map"), figure.data, figure.layout, plotOptions);
}

function clicked(event) {
  const point = event.points[0];
  open(grid.models[point.y][0], grid.mixes[point.x][0], null, byId("benchmark").value);
}

// ---- the card ----

function open(model, mix, seed, benchmark) {
  const seeds = (grid.cells[model] || {})[mix];
  if (!seeds) return;
  shown.model = model;
  shown.mix = mix;
  shown.seed = seed !== null && seed in seeds ? seed : Object.keys(seeds)[0];
  const names = seeds[shown.seed];
  shown.benchmark = names.includes(benchmark) ? benchmark : names[0];
  choices(byId("card-seed"), Object.keys(seeds).map((name) => [name, "seed " + name]), shown.seed);
  choices(byId("card-benchmark"), names.map(withLabel), shown.benchmark);
  byId("card-title").textContent = label(grid.models, model) + " · " + label(grid.mixes, mix);
  const trained = [model, mix, shown.seed].join("/");
  byId("card").hidden = false;
  const cell = shownCell();
  load(cards, trained, () => load(samples, cell, () => {
    showCard(trained);
    byId("card").dataset.cell = cell;
    byId("card").scrollIntoView({ block: "start" });
  }));
}

function withLabel(benchmark) {
  return [benchmark, grid.benchmarks[benchmark]];
}

function label(pairs, key) {
  return pairs.find((pair) => pair[0] === key)[1];
}

function shownCell() {
  return [shown.model, shown.mix, shown.seed, shown.benchmark].join("/");
}

function plot(id, figure) {
  const parent = byId(id);
  parent.parentElement.hidden = !figure;
  if (!figure) return;
  const layout = { ...figure.layout, width: parent.clientWidth || 480 };
  Plotly.react(parent, figure.data, layout, { ...plotOptions, displayModeBar: false });
}

function showCard(trained) {
  const card = cards[trained];
  const cell = shownCell();
  byId("card-lost").hidden = Boolean(card);
  byId("card-body").hidden = !card;
  if (!card) return;
  const isOfCell = (title) => !/^(grade|score) /.test(title) || title.endsWith(" " + cell);
  const ofCell = (object) => Object.entries(object).filter(([title]) => isOfCell(title));
  fill(byId("steps"), ...card.steps.filter((step) => isOfCell(step.title)).map((step) => {
    const row = make("tr");
    const texts = [grid.symbols[step.state], step.title, step.state, step.reasons.join("; ")];
    row.append(...texts.map((text) => make("td", text)));
    return row;
  }));
  byId("score").textContent = inWords(grid.scores[cell]);
  plot("loss", card.loss);
  plot("lengths", samples[cell] && samples[cell].lengths);
  const texts = {
    Configuration: card.config,
    "Specs: what fixes each result": Object.fromEntries(ofCell(card.specs)),
    "Data card of the mix": card.data,
    "Score of this cell": grid.scores[cell],
    Versions: card.versions,
    "Time and memory": card.times,
  };
  const parts = Object.entries(texts).filter(([, value]) => value && Object.keys(value).length);
  fill(byId("texts"),
    ...parts.map(([title, value]) => folded(title, JSON.stringify(value, null, 2))),
    ...ofCell(card.logs).map(([title, text]) => folded("End of the log: " + title, text)));
  showSamples();
}

function inWords(score) {
  if (!score) return "No score yet.";
  const accuracy = score.acc === null ? "no accuracy" : (100 * score.acc).toFixed(1) + " %";
  return accuracy + " of " + score.n.toLocaleString("en") + " answers; " + score.n_correct
    + " right, " + score.n_no_answer + " without an answer, " + score.n_truncated + " truncated, "
    + score.n_unparsed + " unparsed.";
}

function folded(title, text) {
  const details = make("details");
  details.append(make("summary", title), make("pre", text));
  return details;
}

// ---- samples ----

const NO_SAMPLES = { n: 0, counts: {}, samples: [] };

function showSamples() {
  const content = samples[shownCell()] || NO_SAMPLES;
  const words = shown.words.toLowerCase();
  const hasKind = (row) => shown.kind === "all" || row.kinds.includes(shown.kind);
  const hasWords = (row) => [row.problem, row.response, row.gold, row.answer].some(
    (text) => (text || "").toLowerCase().includes(words));
  const rows = content.samples.filter((row) => hasKind(row) && hasWords(row));
  for (const button of byId("kinds").children) {
    const kind = button.dataset.kind;
    const n = (kind === "all" ? content.n : content.counts[kind]) || 0;
    button.textContent = kind + " (" + n.toLocaleString("en") + ")";
    button.setAttribute("aria-pressed", String(kind === shown.kind));
  }
  const nHeld = content.samples.length;
  const end = nHeld < content.n ? ", the same ones each time; all are in samples.jsonl." : ".";
  byId("n-samples").textContent = content.n === 0 ? "No graded answers yet."
    : rows.length + " shown; the page holds " + nHeld + " of " + content.n.toLocaleString("en")
      + " answers" + end;
  fill(byId("samples"), ...rows.map(sample));
}

function sample(row) {
  const box = make("article", null, { class: "sample" });
  const number = "#" + row.doc_id + (row.repeat ? ", repeat " + row.repeat : "");
  const facts = [row.verdict + " (" + row.by + ")", row.tokens + " tokens"];
  if (row.kinds.includes("truncated")) facts.push("truncated");
  box.append(make("h4", number + ": " + facts.join(", ")));
  const list = make("dl");
  const answer = row.answer === null ? "none found" : row.answer;
  const { problem, gold, response, judge } = row;
  const texts = { problem, reference: gold, answer, response, judge };
  for (const [name, text] of Object.entries(texts)) {
    if (text !== null) list.append(make("dt", name), make("dd", text, { class: name }));
  }
  box.append(list);
  return box;
}

// ---- start ----

function onEvent(id, name, action) {
  byId(id).addEventListener(name, (event) => action(event.target.value));
}

const names = Object.keys(grid.figures);
choices(byId("benchmark"), names.map(withLabel), names[0]);
onEvent("benchmark", "change", drawMap);
onEvent("card-seed", "change", (seed) => open(shown.model, shown.mix, seed, shown.benchmark));
onEvent("card-benchmark", "change", (name) => open(shown.model, shown.mix, shown.seed, name));
onEvent("card-close", "click", () => { byId("card").hidden = true; });
onEvent("words", "input", (words) => { shown.words = words; showSamples(); });
for (const button of byId("kinds").children) {
  button.addEventListener("click", () => { shown.kind = button.dataset.kind; showSamples(); });
}
Promise.resolve(drawMap()).then(() => {
  byId("map").on("plotly_click", clicked);
  document.body.dataset.ready = String(Math.round(performance.now())); // milliseconds from opening
});
