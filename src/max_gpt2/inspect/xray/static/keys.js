import { element } from "xray/format";

/**
 * Single-key shortcuts, and the panel that lists them.
 *
 * They act on the column that was used last. They are ignored in fields, and can be switched off: speech input types
 * single keys.
 */
export class Keys {
  /**
   * @param {HTMLElement} panel
   * @param {HTMLElement} button opens and closes the panel
   * @param {{key: string, title: string, live?: boolean, action: (key: string) => void}[]} shortcuts
   *   `key` is a character, or "1-9"; `live` ones need a server
   */
  constructor(panel, button, shortcuts) {
    Object.assign(this, { panel, button });
    this.actions = new Map();
    for (const { key, action } of shortcuts) {
      for (const one of key === "1-9" ? "123456789" : key) this.actions.set(one, action);
    }
    this.actions.set("?", () => this.toggle());
    this.enabled = element("input", { type: "checkbox", name: "single-keys" });
    this.enabled.checked = true;
    this.#fill(shortcuts);
    button.addEventListener("click", () => this.toggle());
    document.addEventListener("keydown", (event) => this.#press(event));
  }

  /** Open or close the list. */
  toggle() {
    this.panel.hidden = !this.panel.hidden;
    this.button.setAttribute("aria-expanded", String(!this.panel.hidden));
  }

  #fill(shortcuts) {
    const row = ({ key, title, live = false }) =>
      element("div", { "data-live": live }, element("dt", {}, element("kbd", {}, key)), element("dd", {}, title));
    const fixed = [
      { key: "← → ↑ ↓", title: "select another token, when one has the focus; also Home and End" },
      { key: "Ctrl+Enter", title: "in the text: show it", live: true },
      { key: "Esc", title: "hide a tooltip; leave a field" },
      { key: "?", title: "open or close this list" },
    ];
    const switches = element("label", {}, this.enabled, " Single keys, outside of fields");
    const list = element("dl", { class: "keys" }, ...[...shortcuts, ...fixed].map(row));
    this.panel.append(element("h2", {}, "Keyboard"), switches, list);
  }

  #press(event) {
    const { target, key } = event;
    const field = target.matches("textarea, select, input:not([type=checkbox], [type=radio])");
    if (field && key === "Escape") target.blur();
    if (field || event.ctrlKey || event.metaKey || event.altKey || !this.enabled.checked) return;
    // On buttons and other controls, Space and Enter belong to the browser; no shortcut uses them.
    const action = this.actions.get(key);
    if (!action) return;
    event.preventDefault();
    action(key);
  }
}
