const KEY = "max-gpt2 xray theme";
const CHOICES = ["system", "light", "dark"];

/**
 * Set the theme of the page, and let a button change it: the system's, light, dark.
 *
 * `data-theme` of the root element is "light" or "dark"; whoever draws with fixed colors observes it.
 */
export function mountTheme(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let choice = load();

  const apply = () => {
    const theme = choice === "system" ? (dark.matches ? "dark" : "light") : choice;
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${choice}`;
  };
  dark.addEventListener("change", apply);
  button.addEventListener("click", () => {
    choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
    save(choice);
    apply();
  });
  apply();
}

/** Return the stored choice; browsers can refuse storage, to files in particular. */
function load() {
  try {
    const stored = localStorage.getItem(KEY);
    return CHOICES.includes(stored) ? stored : "system";
  } catch {
    return "system";
  }
}

function save(choice) {
  try {
    localStorage.setItem(KEY, choice);
  } catch {
    // The choice lasts as long as the page.
  }
}
