import { format, tokenLabel } from "xray/arrays";
import { Figure } from "xray/figure";
import { BY_GREEDY, BY_TOKENIZER, BY_TOP_K, BY_TOP_P, filter, KEPT, softmax } from "xray/filters";
import { count, element, percent } from "xray/format";
import { stateOf } from "xray/panel";
import { Sliders } from "xray/sliders";
import { Steps } from "xray/steps";

/** Why a token is kept or cut, with the pattern of its bar: colors alone do not show it. */
const CLASSES = [
  { value: KEPT, title: "kept", shape: "", color: "mark" },
  { value: BY_TOP_K, title: "cut by top_k", shape: "/", color: "cut" },
  { value: BY_TOP_P, title: "cut by top_p", shape: "x", color: "cut" },
  { value: BY_GREEDY, title: "cut: temperature 0 is greedy", shape: ".", color: "cut" },
  { value: BY_TOKENIZER, title: "not in the tokenizer", shape: "-", color: "cut" },
];
const COLORS = { light: { mark: "#1f5fa8", cut: "#a34a00" }, dark: { mark: "#6cb0f7", cut: "#f0a35e" } };
const ROW = 21;

/** Show the distribution after the selected token, what the sampler cuts from it, and the buttons to continue. */
export function mountNext(parent, column, page) {
  return new Next(parent, column, page);
}

class Next {
  #running = false;
  #again = false;

  constructor(parent, column, page) {
    this.column = column;
    this.rows = 10;
    this.sliders = new Sliders(parent, () => column.info.vocab_size, () => this.#filter());
    this.summary = element("p", { class: "summary", role: "status" });
    parent.append(this.summary);
    this.steps = new Steps(parent, column, page, this.sliders);
    parent.append(this.#rowField());
    this.figure = new Figure(parent, { name: "next-token", title: "Next token" });
    this.figure.busy();
    column.addEventListener("state", () => this.figure.busy());
    column.addEventListener("view", () => this.#refresh());
    column.addEventListener("select", () => this.#refresh());
  }

  #rowField() {
    const select = element("select", {});
    for (const rows of [10, 20, 50, 200]) select.append(element("option", { value: rows }, String(rows)));
    select.addEventListener("change", () => {
      this.rows = Number(select.value);
      this.#draw();
    });
    return element("label", {}, "Tokens shown ", select);
  }

  /** Ask for the distribution; one request at a time, so that a held arrow key does not queue hundreds. */
  async #refresh() {
    this.#again = this.#running;
    if (this.#running) return;
    this.#running = true;
    this.figure.busy();
    const { position } = this.column;
    try {
      const answer = await this.column.ask("next", { position });
      if (position === this.column.position) this.#show(answer, position);
    } catch (error) {
      if (error.name !== "AbortError") this.#fail(error.message);
    }
    this.#running = false;
    if (this.#again) this.#refresh();
  }

  #show(answer, position) {
    this.answer = answer;
    this.position = position;
    this.plain = softmax(answer.logits.data);
    this.base = answer.base_logits ? softmax(answer.base_logits.data) : null;
    this.sliders.show();
    this.#filter();
  }

  #fail(sentence) {
    this.answer = null;
    this.summary.textContent = "";
    this.steps.offer([]);
    this.figure.message(sentence);
  }

  #filter() {
    if (!this.answer) return;
    const { tokenizer_size: size } = this.column.info;
    this.filtered = filter(this.answer.logits.data, this.sliders.settings, size);
    const { kept, cutMass, cut } = this.filtered;
    const rest = cut.length - kept;
    const mass = `The ${count(rest)} that are cut have ${format(100 * cutMass)}% of the probability.`;
    this.summary.textContent = rest
      ? `${count(kept)} of ${count(cut.length)} tokens can be sampled. ${mass}`
      : `Nothing is cut: all ${count(kept)} tokens can be sampled.`;
    this.#draw();
  }

  #draw() {
    if (!this.answer) return;
    const { texts, top } = this.answer;
    const ids = [...top.data].slice(0, this.rows);
    const { filtered } = this;
    const names = ids.map((id) => nameOf(texts[id], id));
    this.steps.offer(ids.slice(0, 9).map((id, index) => ({ id, name: names[index] })));
    const token = tokenLabel(this.column.view.tokens[this.position].text);
    this.figure.setTitle(`Next token after position ${this.position} (${token})`);
    this.figure.draw({
      traces: (theme) => traces(ids, this, COLORS[theme.dark ? "dark" : "light"], theme),
      layout: layout(ids.length, ids.reduce((most, id) => Math.max(most, this.plain[id], filtered.renormalized[id]), 0)),
      tokens: { y: names },
      tooltip: ({ y }) => this.#describe(ids[y]),
      click: ({ y }) => this.steps.force([ids[y]], names[y]),
      table: () => this.#table(),
      data: () => this.#data(),
    });
    this.figure.element.dataset.kept = filtered.kept;
  }

  /** Return the numbers of a token. */
  #numbers(id) {
    const { plain, base, filtered, answer } = this;
    return {
      logit: answer.logits.data[id],
      probability: plain[id],
      ...(base && { "without ablations": base[id] }),
      "after temperature": filtered.probabilities[id],
      sampling: filtered.renormalized[id],
    };
  }

  #describe(id) {
    const lines = Object.entries(this.#numbers(id)).map(([name, value]) => `${name}: ${format(value)}`);
    return [`${nameOf(this.answer.texts[id], id)}, id ${id}, ${this.#state(id)}`, ...lines].join("\n");
  }

  #state(id) {
    return CLASSES[this.filtered.cut[id]].title;
  }

  #table() {
    const { top, texts } = this.answer;
    const ids = [...top.data];
    const rows = ids.map((id) => {
      const text = nameOf(texts[id], id);
      const force = { text: "Append", action: () => this.steps.force([id], text) };
      return [text, id, this.#state(id), ...Object.values(this.#numbers(id)), ...(this.steps.live ? [force] : [])];
    });
    const columns = ["token", "id", "state", ...Object.keys(this.#numbers(ids[0])), ...(this.steps.live ? ["step"] : [])];
    return { columns, rows, total: this.plain.length };
  }

  #data() {
    const { answer, filtered, position } = this;
    return {
      ...stateOf(this.column),
      position,
      settings: this.sliders.settings,
      kept: filtered.kept,
      cut_mass: filtered.cutMass,
      top: [...answer.top.data].map((id) => ({ id, text: answer.texts[id], state: this.#state(id), ...this.#numbers(id) })),
      logits: answer.logits,
      base_logits: answer.base_logits ?? null,
    };
  }
}

/** Return the text of a token, or its id if it has no visible text. */
function nameOf(text, id) {
  return tokenLabel(text).trim() || `id ${id}`;
}

/** Return a bar for each token: its probability of sampling, or, if it is cut, its probability before. */
function traces(ids, { filtered, plain, base }, colors, theme) {
  const lengths = ids.map((id) => (filtered.cut[id] === KEPT ? filtered.renormalized : filtered.probabilities)[id]);
  const bars = CLASSES.map(({ value, title, shape, color }) => {
    const rows = [...ids.keys()].filter((row) => filtered.cut[ids[row]] === value);
    const pattern = { shape, fgcolor: colors[color], bgcolor: theme.surface, fillmode: "replace", size: 6 };
    return {
      ...{ type: "bar", orientation: "h", name: title, x: rows.map((row) => lengths[row]), y: rows, hoverinfo: "none" },
      marker: { color: colors[color], line: { color: colors[color], width: 1 }, ...(shape && { pattern }) },
    };
  });
  const points = (values, name, symbol) => ({
    ...{ type: "scatter", mode: "markers", name, hoverinfo: "none" },
    ...{ x: ids.map((id) => values[id]), y: [...ids.keys()], marker: { symbol, size: 9, color: theme.ink } },
  });
  const marks = [points(plain, "model", "line-ns-open"), ...(base ? [points(base, "without ablations", "diamond-open")] : [])];
  const labels = {
    ...{ type: "scatter", mode: "text", textposition: "middle right", hoverinfo: "none", showlegend: false },
    x: ids.map((id, row) => Math.max(lengths[row], plain[id], base?.[id] ?? 0)),
    y: [...ids.keys()],
    text: ids.map((id, row) => `${base ? "\u2003" : "\u2002"}${percent(lengths[row])}${filtered.cut[id] === KEPT ? "" : " cut"}`),
  };
  return [...bars.filter(({ y }) => y.length), ...marks, labels];
}

/** Return the layout for a number of rows and the largest probability, with room for the labels beside the bars. */
function layout(rows, largest) {
  return {
    height: 90 + ROW * rows,
    barmode: "overlay",
    bargap: 0.25,
    showlegend: true,
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    xaxis: { tickformat: ".3~%", range: [0, 1.25 * largest], fixedrange: true },
    yaxis: { range: [rows - 0.5, -0.5], fixedrange: true, showgrid: false },
  };
}
