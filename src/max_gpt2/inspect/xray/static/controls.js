import { count, element } from "xray/format";

/** Show the text of a column with its model and the BOS switch; a form to submit another, and the history. */
export function mountControls(parent, column, page) {
  return new Controls(parent, column, page);
}

class Controls {
  #submitted = ""; // the text that the form showed last; a text that differs is being edited

  constructor(parent, column, page) {
    Object.assign(this, { column, page });
    this.text = element("textarea", { rows: 3, spellcheck: "false", placeholder: "Type a text", name: "text" });
    this.text.readOnly = page.file;
    this.bos = element("input", { type: "checkbox", name: "bos" });
    this.model = element("select", { name: "model" });
    for (const [index, { name }] of page.info.models.entries()) {
      this.model.append(element("option", { value: index, selected: index === column.model }, name));
    }
    this.back = element("button", { type: "button", onclick: () => this.#travel("back") }, "Back");
    this.forward = element("button", { type: "button", onclick: () => this.#travel("forward") }, "Forward");
    this.length = element("span", { class: "muted" });
    const form = element("form", { onsubmit: (event) => this.#submit(event) }, this.#textField(), this.#row());
    this.warning = element("p", { role: "status", class: "warning" });
    parent.append(form, this.warning);
    this.#listen();
  }

  #textField() {
    return element("label", { class: "field" }, element("span", {}, "Text"), this.text);
  }

  #row() {
    const submit = element("button", { type: "submit", class: "primary", "data-live": true }, "Show");
    const bos = element("label", { "data-live": true }, this.bos, " Start with the BOS token");
    const model = element("label", { "data-live": true }, "Model ", this.model);
    model.hidden = this.page.info.models.length < 2;
    this.bosLabel = bos;
    const history = element("div", { class: "row", "data-live": true }, this.back, this.forward);
    return element("div", { class: "row" }, submit, bos, model, history, this.length);
  }

  #listen() {
    const { column, text } = this;
    column.addEventListener("view", () => this.#update());
    column.addEventListener("history", () => this.#update());
    this.model.addEventListener("change", () => this.#offerBos(Number(this.model.value)));
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      text.form.requestSubmit();
    });
    this.#update();
  }

  /** Show the state of the column, unless the user is editing the text. */
  #update() {
    const { column } = this;
    this.back.disabled = !column.canGoBack;
    this.forward.disabled = !column.canGoForward;
    this.model.value = String(column.model);
    this.#offerBos(column.model);
    if (!column.view) return;
    const { tokens } = column.view;
    const withBos = tokens[0].id === column.info.bos;
    this.length.textContent = `${count(tokens.length)} of ${count(column.info.n_positions)} tokens`;
    if (this.text.value !== this.#submitted) return;
    this.bos.checked = withBos;
    this.text.value = joined(tokens.slice(withBos ? 1 : 0));
    this.#submitted = this.text.value;
  }

  #offerBos(model) {
    this.bosLabel.hidden = this.page.info.models[model].bos === null;
  }

  async #submit(event) {
    event.preventDefault();
    await this.show(this.text.value, this.bos.checked, Number(this.model.value));
  }

  /** Show a text, or say why it cannot be shown. */
  async show(text, bos, model) {
    const { column } = this;
    this.page.alert("");
    this.warning.textContent = "";
    try {
      const { ids, warning } = await column.encode(text, bos && this.page.info.models[model].bos !== null, model);
      this.warning.textContent = warning ?? "";
      this.#submitted = this.text.value;
      const ablated = model === column.model ? column.ablated : [];
      const done = await column.change({ model, ids, ablated, position: Math.max(0, ids.length - 1) });
      if (done) this.page.announce(`${count(ids.length)} tokens.`);
    } catch (error) {
      column.fail(error);
    }
  }

  async #travel(direction) {
    if (await this.column[direction]()) this.page.announce(`${count(this.column.ids.length)} tokens.`);
  }
}

/** Return the text of tokens. Bytes such as ⟨e2 80⟩ of a character in several tokens become the character again. */
export function joined(tokens) {
  const bytes = [];
  const encoder = new TextEncoder();
  for (const { text } of tokens) {
    const found = /^⟨([0-9a-f]{2}(?: [0-9a-f]{2})*)⟩$/.exec(text);
    if (found) bytes.push(...found[1].split(" ").map((one) => parseInt(one, 16)));
    else bytes.push(...encoder.encode(text));
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}
