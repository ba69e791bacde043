import { format, tokenLabel } from "xray/arrays";
import { addLegend, coloring, MODES } from "xray/coloring";
import { exportButtons } from "xray/export";
import { element } from "xray/format";
import { stateOf } from "xray/panel";
import { pngOf, svgOfTokens } from "xray/picture";
import { DataTable } from "xray/table";

/**
 * Show the tokens of a column, colored by surprisal, rank or change; one can be selected.
 *
 * The tokens are a listbox: the arrow keys, Home and End select; the tooltip describes the token under the pointer or
 * the focus.
 */
export function mountTokens(parent, column, page) {
  return new Tokens(parent, column, page);
}

class Tokens {
  #mode = "surprisal";

  constructor(parent, column, page) {
    this.column = column;
    this.page = page;
    this.modes = element("fieldset", { class: "modes" }, element("legend", {}, "Color by"));
    for (const [name, title] of Object.entries(MODES)) this.modes.append(this.#radio(name, title));
    this.legend = element("div", { class: "legend" });
    this.list = element("div", { class: "tokens", role: "listbox", "aria-label": "Tokens" });
    this.tip = element("div", { class: "tip", role: "tooltip", hidden: true });
    this.tip.id = `tip-${Math.random().toString(36).slice(2)}`;
    const buttons = element("div", { class: "figure-buttons" });
    parent.append(element("div", { class: "row" }, this.modes, this.legend, buttons), this.list, this.tip);
    const svg = async () => svgOfTokens(this.list);
    exportButtons(buttons, "tokens", { svg, png: async () => pngOf(await svg()), data: () => this.#data() });
    this.table = new DataTable(parent);
    this.#listen();
  }

  #radio(name, title) {
    const group = (this.group ??= `color-${Math.random().toString(36).slice(2)}`);
    const input = element("input", { type: "radio", name: group, value: name, checked: name === this.#mode });
    input.addEventListener("change", () => {
      this.#mode = name;
      this.#color();
    });
    return element("label", { "data-mode": name }, input, ` ${title}`);
  }

  #listen() {
    const { column, list } = this;
    column.addEventListener("state", () => list.setAttribute("aria-busy", "true"));
    column.addEventListener("view", () => this.#draw());
    column.addEventListener("select", () => this.#mark());
    column.addEventListener("compared", () => this.#color());
    list.addEventListener("click", (event) => this.#choose(indexOf(event.target), true));
    list.addEventListener("keydown", (event) => this.#key(event));
    list.addEventListener("pointerover", (event) => this.#describe(indexOf(event.target)));
    list.addEventListener("pointerleave", () => this.#describe(-1));
    list.addEventListener("focusin", (event) => this.#describe(indexOf(event.target)));
    list.addEventListener("focusout", () => this.#describe(-1));
  }

  #draw() {
    const { tokens } = this.column.view;
    const focused = this.list.contains(document.activeElement);
    this.list.replaceChildren(...tokens.flatMap(({ text }, index) => option(text, index)));
    this.list.removeAttribute("aria-busy");
    this.#describe(-1);
    this.#color();
    this.#mark();
    this.table.set(() => table(this.column.view));
    if (focused) this.#option(this.column.position).focus();
  }

  /** Color the tokens by the mode; fall back to the surprisal where there is nothing to show. */
  #color() {
    const { column } = this;
    if (!column.view) return;
    const available = Object.keys(MODES).filter((name) => coloring(name, column));
    for (const label of this.modes.querySelectorAll("label")) {
      label.hidden = !available.includes(label.dataset.mode);
      label.firstChild.checked = label.dataset.mode === this.#mode;
    }
    if (!available.includes(this.#mode)) {
      this.#mode = "surprisal";
      this.modes.querySelector("input").checked = true;
    }
    const colors = coloring(this.#mode, column);
    for (const one of this.list.children) {
      const { name, level, label } = colors.of(Number(one.dataset.index));
      one.dataset.color = name;
      one.style.setProperty("--level", `${level}%`);
      one.setAttribute("aria-label", `${tokenLabel(column.view.tokens[one.dataset.index].text)}, ${label}`);
    }
    addLegend(this.legend, colors);
  }

  #data() {
    const { view } = this.column;
    const arrays = Object.entries(view).filter(([, value]) => value.shape);
    return { ...stateOf(this.column), ...Object.fromEntries(arrays), texts: view.texts };
  }

  /** Mark the selected token, the only one in the order of the Tab key. */
  #mark() {
    for (const one of this.list.querySelectorAll("[aria-selected=true]")) {
      one.setAttribute("aria-selected", "false");
      one.tabIndex = -1;
    }
    const selected = this.#option(this.column.position);
    if (!selected) return;
    selected.setAttribute("aria-selected", "true");
    selected.tabIndex = 0;
  }

  #option(index) {
    return this.list.children[index];
  }

  #choose(index, focus) {
    if (index < 0) return;
    this.column.select(index);
    if (focus) this.#option(index).focus({ preventScroll: false });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") this.#describe(-1);
    const index = indexOf(event.target);
    const last = this.list.children.length - 1;
    const targets = {
      ArrowLeft: () => Math.max(0, index - 1),
      ArrowRight: () => Math.min(last, index + 1),
      ArrowUp: () => this.#beside(index, -1),
      ArrowDown: () => this.#beside(index, 1),
      Home: () => 0,
      End: () => last,
    };
    if (index < 0 || !(event.key in targets)) return;
    event.preventDefault();
    this.#choose(targets[event.key](), true);
  }

  /** Return the index of the nearest token on the line above (`step` -1) or below (1). */
  #beside(index, step) {
    const options = this.list.children;
    const from = options[index];
    const centre = from.offsetLeft + from.offsetWidth / 2;
    let found = index;
    let line = null;
    let least = Infinity;
    for (let other = index + step; other >= 0 && other < options.length; other += step) {
      const one = options[other];
      if (one.offsetTop === from.offsetTop) continue;
      line ??= one.offsetTop;
      if (one.offsetTop !== line) break;
      const distance = Math.abs(one.offsetLeft + one.offsetWidth / 2 - centre);
      if (distance < least) [least, found] = [distance, other];
    }
    return found;
  }

  /** Show the tooltip of a token; hide it for -1. */
  #describe(index) {
    for (const one of this.list.querySelectorAll("[aria-describedby]")) one.removeAttribute("aria-describedby");
    this.tip.hidden = index < 0 || this.list.hasAttribute("aria-busy");
    if (this.tip.hidden) return;
    this.tip.replaceChildren(...description(this.column, index));
    const one = this.#option(index);
    one.setAttribute("aria-describedby", this.tip.id);
    const widest = this.tip.offsetParent.clientWidth - this.tip.offsetWidth;
    this.tip.style.left = `${Math.max(0, Math.min(one.offsetLeft, widest))}px`;
    this.tip.style.top = `${one.offsetTop + one.offsetHeight + 4}px`;
  }
}

/** Return the index of the token that an event is about; -1 if none. */
function indexOf(target) {
  return Number(target.closest("[role=option]")?.dataset.index ?? -1);
}

function option(text, index) {
  const one = element("span", { class: "token", role: "option", "data-index": index, "aria-selected": "false" });
  one.tabIndex = -1;
  one.textContent = text.replace(/\t/g, "⇥").replace(/\n/g, "⏎\n") || "∅";
  return one;
}

/** Return the measures of all tokens, with those without ablations if there are some. */
function table(view) {
  const names = ["surprisal", "rank"].flatMap((name) => (view[`base_${name}`] ? [name, `base_${name}`] : [name]));
  const title = (name) => (name.startsWith("base_") ? `${name.slice(5)} without ablations` : name);
  return {
    columns: ["position", "token", "id", ...names.map(title), "entropy of the next", "most likely next"],
    rows: view.tokens.map(({ id, text }, index) => [
      ...[index, tokenLabel(text), id],
      ...names.map((name) => (index ? view[name].data[index] : "–")),
      ...[view.entropy.data[index], tokenLabel(view.texts[view.top_ids.at(index, 0)])],
    ]),
  };
}

/** Return the nodes that describe a token and what the model expected in its place. */
function description(column, index) {
  const { view } = column;
  const { id, text } = view.tokens[index];
  const head = element("p", { class: "tip-head" }, element("code", {}, tokenLabel(text)), ` id ${id}, position ${index}`);
  if (index === 0) return [head, element("p", {}, "The first token is not predicted.")];
  const rows = [
    ["Surprisal", "surprisal", index, " bits"],
    ["Rank", "rank", index, ""],
    ["Entropy", "entropy", index - 1, " bits"],
  ];
  const numbers = element("dl", {});
  for (const [title, name, at, unit] of rows) {
    const before = view[`base_${name}`];
    const change = before ? `, before ablation ${format(before.data[at])}` : "";
    const value = element("dd", { "data-name": name }, format(view[name].data[at]));
    numbers.append(element("dt", {}, title), value);
    value.append(unit + change);
  }
  const ids = view.top_ids.row(index - 1);
  const probabilities = view.top_probabilities.row(index - 1);
  const expected = element("ol", { class: "expected" });
  ids.forEach((one, place) => {
    expected.append(element("li", {}, element("code", {}, tokenLabel(view.texts[one])), ` ${format(100 * probabilities[place])}%`));
  });
  return [head, numbers, element("p", {}, "Most likely here:"), expected];
}
