import { format, tokenLabel } from "xray/arrays";
import { argmax, divergence, softmax } from "xray/filters";
import { element, mean, percent } from "xray/format";

/** Show the ablated heads and MLPs of a column, each with a button that restores it, and what they change. */
export function mountAblations(parent, column, page) {
  return new Ablations(parent, column, page);
}

class Ablations {
  #turn = 0;

  constructor(parent, column, page) {
    Object.assign(this, { column, page });
    this.section = parent.closest("[data-panel]");
    this.chips = element("ul", { class: "chips", "aria-label": "Ablated heads and MLPs" });
    const clear = element("button", { type: "button", onclick: () => this.clear() }, "Clear all");
    this.numbers = element("dl", { class: "numbers" });
    parent.append(element("div", { class: "row" }, this.chips, clear), this.numbers);
    column.addEventListener("state", () => this.#draw());
    column.addEventListener("view", () => this.#draw());
    column.addEventListener("view", () => this.#measure());
    column.addEventListener("view", () => this.#announce());
    column.addEventListener("select", () => this.#measure());
  }

  /** Restore everything. */
  async clear() {
    if (this.column.ablated.length) await this.column.change({ ablated: [] });
  }

  #draw() {
    const { ablated } = this.column;
    this.section.hidden = !ablated.length;
    this.chips.replaceChildren(...ablated.map((one) => element("li", {}, this.#chip(one))));
    this.#expire();
  }

  #chip({ layer, head }) {
    const name = nameOf(layer, head);
    const restore = () => this.column.toggle(layer, head);
    return element("button", { type: "button", "aria-label": `Restore ${name}`, onclick: restore }, `${name} ✕`);
  }

  #expire() {
    this.numbers.setAttribute("aria-busy", String(this.column.ablated.length > 0));
  }

  /** Show the differences; those of the next token need its logits. */
  async #measure() {
    const turn = ++this.#turn;
    const { view, position } = this.column;
    this.#expire();
    if (!view?.base_surprisal || !this.column.ablated.length) return;
    try {
      const answer = await this.column.ask("next", { position });
      if (turn !== this.#turn) return;
      this.numbers.replaceChildren(...differences(view, answer));
      this.numbers.setAttribute("aria-busy", "false");
    } catch (error) {
      this.column.fail(error);
    }
  }

  #announce() {
    const { ablated, view } = this.column;
    const last = ablated.at(-1);
    if (!last || !view.base_surprisal) return;
    const [before, after] = means(view);
    const names = ablated.map(({ layer, head }) => nameOf(layer, head)).join("; ");
    this.page.announce(`Ablated: ${names}. Mean surprisal ${format(before)} before, ${format(after)} after.`);
  }
}

/** Return the name of a head or, if `head` is null, of an MLP. */
export function nameOf(layer, head) {
  return head === null ? `layer ${layer}, MLP` : `layer ${layer}, head ${head}`;
}

function means(view) {
  return [mean(view.base_surprisal.data), mean(view.surprisal.data)];
}

/** Return the nodes that compare the view and the distribution of the next token with those without ablations. */
function differences(view, next) {
  const [before, after] = means(view);
  const [old, now] = [next.base_logits.data, next.logits.data];
  const rows = [
    ["Mean surprisal", "surprisal", `${format(before)} → ${format(after)} bits (${plus(after - before)})`],
    ["KL divergence at the selected token", "divergence", `${format(divergence(old, now))} bits`],
    ["Most likely next token", "argmax", `${best(old, next)} → ${best(now, next)}`],
  ];
  return rows.flatMap(([title, name, text]) => [element("dt", {}, title), element("dd", { "data-name": name }, text)]);
}

function plus(value) {
  return value > 0 ? `+${format(value)}` : format(value);
}

function best(logits, { texts }) {
  const id = argmax(logits);
  return `${tokenLabel(texts[id])} ${percent(softmax(logits)[id])}`;
}
