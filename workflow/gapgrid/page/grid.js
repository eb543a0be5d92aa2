// The grid page's glue: draws what Python prepared and shows the card of the cell that was clicked.
// Whatever came from a model, a log or the configuration is set as text (textContent), never as markup.
"use strict";

const grid = JSON.parse(document.getElementById("grid-data").textContent);
const quiet = { displaylogo: false, modeBarButtons: [["toImage"]] };
const cards = {}; // training cell -> its card, once loaded
const answers = {}; // cell -> its samples, once loaded
const shown = { model: null, mix: null, seed: null, benchmark: null, kind: "all", words: "" };
const byId = (id) => document.getElementById(id);

// What the side files call.
function receiveCard(name, card) { cards[name] = card; }
function receiveSamples(name, content) { answers[name] = content; }

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
  const script = make("script", null, { src: "cells/" + name.split("/").map(encodeURIComponent).join("/") + ".js" });
  script.onload = script.onerror = () => { script.remove(); then(); };
  document.head.append(script);
}

// ---- the map ----

function drawMap() {
  const figure = grid.figures[byId("benchmark").value];
  return Plotly.react(byId("map"), figure.data, figure.layout, quiet);
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
  choices(byId("card-seed"), Object.keys(seeds).map((one) => [one, "seed " + one]), shown.seed);
  choices(byId("card-benchmark"), names.map((one) => [one, grid.benchmarks[one]]), shown.benchmark);
  byId("card-title").textContent = grid.models.find((one) => one[0] === model)[1] + " · " + grid.mixes.find((one) => one[0] === mix)[1];
  const trained = [model, mix, shown.seed].join("/");
  byId("card").hidden = false;
  load(cards, trained, () => load(answers, trained + "/" + shown.benchmark, () => {
    showCard(trained);
    byId("card").dataset.cell = trained + "/" + shown.benchmark;
    byId("card").scrollIntoView({ block: "start" });
  }));
}

function plot(id, figure) {
  const place = byId(id);
  place.parentElement.hidden = !figure;
  if (figure) Plotly.react(place, figure.data, { ...figure.layout, width: place.clientWidth || 480 }, { ...quiet, displayModeBar: false });
}

function showCard(trained) {
  const card = cards[trained];
  const cell = trained + "/" + shown.benchmark;
  byId("card-lost").hidden = Boolean(card);
  byId("card-body").hidden = !card;
  if (!card) return;
  const found = answers[cell];
  const mine = (step) => !/^(grade|score) /.test(step.title) || step.title.endsWith(" " + cell);
  fill(byId("steps"), ...card.steps.filter(mine).map((step) => {
    const row = make("tr");
    row.append(make("td", grid.marks[step.state]), make("td", step.title), make("td", step.state), make("td", step.reasons.join("; ")));
    return row;
  }));
  byId("score").textContent = inWords(grid.scores[cell]);
  plot("loss", card.loss);
  plot("lengths", found && found.lengths);
  const specs = Object.fromEntries(Object.entries(card.specs).filter(([title]) => mine({ title })));
  const texts = { Configuration: card.config, "Specs: what fixes each result": specs, "Data card of the mix": card.data,
    "Score of this cell": grid.scores[cell], Versions: card.versions, "Time and memory": card.times };
  const parts = Object.entries(texts).filter(([, value]) => value && Object.keys(value).length);
  const logs = Object.entries(card.logs).filter(([title]) => mine({ title }));
  fill(byId("texts"), ...parts.map(([title, value]) => folded(title, JSON.stringify(value, null, 2))),
    ...logs.map(([title, text]) => folded("End of the log: " + title, text)));
  showSamples(found);
}

function inWords(score) {
  if (!score) return "No score yet.";
  const accuracy = score.acc === null ? "no accuracy" : (100 * score.acc).toFixed(1) + " %";
  return accuracy + " of " + score.n.toLocaleString("en") + " answers; " + score.n_correct + " right, " + score.n_no_answer + " without an answer, "
    + score.n_truncated + " truncated, " + score.n_unparsed + " unparsed.";
}

function folded(title, text) {
  const details = make("details");
  details.append(make("summary", title), make("pre", text));
  return details;
}

// ---- samples ----

function showSamples(found) {
  const words = shown.words.toLowerCase();
  const all = found ? found.samples : [];
  const fits = (row) => shown.kind === "all" || row.kinds.includes(shown.kind);
  const holds = (row) => !words || [row.problem, row.response, row.gold, row.answer].some((text) => (text || "").toLowerCase().includes(words));
  const rows = all.filter((row) => fits(row) && holds(row));
  for (const button of byId("kinds").children) {
    const kind = button.dataset.kind;
    const n = found ? (kind === "all" ? found.n : found.counts[kind]) : 0;
    button.textContent = kind + " (" + n.toLocaleString("en") + ")";
    button.setAttribute("aria-pressed", String(kind === shown.kind));
  }
  byId("n-samples").textContent = found && found.n
    ? rows.length + " shown; the page holds " + all.length + " of " + found.n.toLocaleString("en") + " answers"
      + (all.length < found.n ? ", the same ones each time; all are in samples.jsonl." : ".")
    : "No graded answers yet.";
  fill(byId("samples"), ...rows.map(sample));
}

function sample(row) {
  const box = make("article", null, { class: "sample" });
  const facts = [row.verdict + " (" + row.by + ")", row.tokens + " tokens"].concat(row.kinds.includes("truncated") ? ["truncated"] : []);
  box.append(make("h4", "#" + row.doc_id + (row.repeat ? ", repeat " + row.repeat : "") + ": " + facts.join(", ")));
  const list = make("dl");
  for (const [name, text] of [["problem", row.problem], ["reference", row.gold], ["answer", row.answer], ["response", row.response], ["judge", row.judge]]) {
    if (text !== null || name === "answer") list.append(make("dt", name), make("dd", text === null ? "none found" : text, { class: name }));
  }
  box.append(list);
  return box;
}

// ---- start ----

choices(byId("benchmark"), Object.keys(grid.figures).map((name) => [name, grid.benchmarks[name]]), Object.keys(grid.figures)[0]);
byId("benchmark").addEventListener("change", drawMap);
byId("card-seed").addEventListener("change", (event) => open(shown.model, shown.mix, event.target.value, shown.benchmark));
byId("card-benchmark").addEventListener("change", (event) => open(shown.model, shown.mix, shown.seed, event.target.value));
byId("card-close").addEventListener("click", () => { byId("card").hidden = true; });
byId("words").addEventListener("input", (event) => { shown.words = event.target.value; refilter(); });
for (const button of byId("kinds").children) button.addEventListener("click", () => { shown.kind = button.dataset.kind; refilter(); });
function refilter() { showSamples(answers[[shown.model, shown.mix, shown.seed, shown.benchmark].join("/")]); }
Promise.resolve(drawMap()).then(() => {
  byId("map").on("plotly_click", clicked);
  document.body.dataset.ready = String(Math.round(performance.now())); // milliseconds from opening
});
