/**
 * A field to choose a token: one of the most likely ones, or any other by its text.
 */

import { percent, tokenLabel } from "xray/arrays";
import { selectField } from "xray/panel";

const [NEXT, NONE, OTHER] = ["next", "none", "other"];

/** Chooses a token at the selected position of a column. */
export class TokenChooser {
  /**
   * @param {Element} container
   * @param {import("xray/column").Column} column
   * @param {{label: string, optional: boolean, file: boolean, change: () => void, fail: (sentence: string) => void}} options
   *   optional: whether the field can be left empty; it is, to begin with
   */
  constructor(container, column, options) {
    Object.assign(this, { column, options, other: null, value: options.optional ? NONE : NEXT });
    this.field = selectField(options.label, [], (value) => this.#choose(value));
    this.select = this.field.querySelector("select");
    this.input = document.createElement("input");
    Object.assign(this.input, { type: "text", hidden: true, placeholder: "text, with its space", size: 14 });
    this.input.setAttribute("aria-label", `${options.label}: text of the token`);
    this.input.addEventListener("change", () => this.#encode());
    container.append(this.field, this.input);
  }

  /** Return the id of the chosen token, or null for none. */
  get id() {
    if (this.value === NONE) return null;
    if (this.value === NEXT) return nextToken(this.column);
    return this.value === OTHER ? (this.other?.id ?? null) : Number(this.value);
  }

  /** Return the text of the chosen token. */
  get text() {
    if (this.value === OTHER && this.other) return this.other.text;
    return textOf(this.column, this.id);
  }

  /** List the tokens of the selected position; what was chosen stays chosen. */
  update() {
    const { view, position } = this.column;
    const next = nextToken(this.column);
    const options = this.options.optional
      ? [[NONE, "nothing"]]
      : [[NEXT, `${tokenLabel(textOf(this.column, next))} (follows)`]];
    const ids = [...view.top_ids.row(position)];
    // A file has the attribution of the token that follows only.
    if (this.options.file) ids.length = 0;
    ids.forEach((id, index) => {
      const chance = percent(view.top_probabilities.at(position, index));
      options.push([String(id), `${tokenLabel(textOf(this.column, id))} (${chance})`]);
    });
    const chosen = ![NEXT, NONE, OTHER].includes(this.value) && !ids.includes(Number(this.value));
    if (chosen) options.push([this.value, tokenLabel(this.text)]);
    if (!this.options.file) options.push([OTHER, "another …"]);
    this.select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    this.select.value = this.value;
  }

  #choose(value) {
    this.value = value;
    this.input.hidden = value !== OTHER;
    if (value === OTHER) {
      this.input.focus();
      if (!this.other) return;
    }
    this.options.change();
  }

  async #encode() {
    const text = this.input.value;
    if (!text) return;
    try {
      const { ids } = await this.column.ask("encode", { text, bos: false });
      if (ids.length !== 1) {
        this.options.fail(`“${text}” is ${ids.length} tokens for this model. Enter the text of one token.`);
        return;
      }
      this.other = { id: ids[0], text };
      this.options.change();
    } catch (error) {
      if (error.name !== "AbortError") this.options.fail(error.message);
    }
  }
}

/** Return the id of the token that follows the selected one; at the end, the most likely one. */
function nextToken({ view, position }) {
  return position + 1 < view.tokens.length ? view.tokens[position + 1].id : view.next_id;
}

function textOf({ view }, id) {
  return view.texts[id] ?? view.tokens.find((token) => token.id === id)?.text ?? `id ${id}`;
}
