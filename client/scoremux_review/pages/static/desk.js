// Keys, and answers put into the page without loading it anew. Everything also works without this file.
"use strict";
(() => {
  const main = document.getElementById("main");
  const KEYS_OFF = "desk-keys-off";
  let busy = false;
  document.documentElement.classList.add("script");

  function prepare() {
    for (const more of main.querySelectorAll("details.more")) more.open = true;
  }

  async function send(form, button) {
    if (busy) return;
    busy = true;
    main.setAttribute("aria-busy", "true");
    const fields = new URLSearchParams(new FormData(form));
    if (button && button.name) fields.append(button.name, button.value);
    try {
      const answer = await fetch(form.action, { method: "POST", body: fields, headers: { "X-Desk": "1" } });
      if (answer.status === 401) return location.assign("/login");
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...page.body.childNodes);
      prepare();
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    } catch {
      tell("No answer from the desk. Your decision may not be saved: press the key again.");
    } finally {
      busy = false;
      main.removeAttribute("aria-busy");
    }
  }

  function tell(message) {
    const strip = main.querySelector(".strip") || main;
    const line = strip.querySelector(".message") || strip.insertBefore(document.createElement("span"), strip.firstChild);
    line.className = "message";
    line.textContent = message;
  }

  function confirmed(button) {
    // An alert takes two presses; the first says what the second does.
    if (!button.dataset.confirm || button.classList.contains("armed")) return true;
    button.classList.add("armed");
    tell(button.dataset.confirm + " Press again.");
    setTimeout(() => button.classList.remove("armed"), 4000);
    return false;
  }

  document.addEventListener("submit", (event) => {
    const { target: form, submitter: button } = event;
    if (!main.contains(form) || !main.querySelector(".reading, .strip")) return;
    event.preventDefault();
    if (!button || confirmed(button)) send(form, button);
  });

  document.addEventListener("change", (event) => {
    if (event.target.id === "use-keys") localStorage.setItem(KEYS_OFF, event.target.checked ? "" : "1");
  });

  document.addEventListener("keydown", (event) => {
    const field = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (field) {
      if (event.key === "Escape") main.focus({ preventScroll: true });
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (localStorage.getItem(KEYS_OFF)) return;
    if (event.key === "Enter" && event.target.closest("a, button, summary")) return;
    // A capital is a code, whatever Caps Lock does.
    const letter = /^[a-z]$/i.test(event.key);
    const key = letter ? (event.shiftKey ? event.key.toUpperCase() : event.key.toLowerCase()) : event.key;
    if (key === "?") return location.assign("/help");
    if (key === "n" && main.querySelector("#note")) {
      event.preventDefault();
      main.querySelector("#note").focus();
      return;
    }
    const button = main.querySelector(`[data-key="${CSS.escape(key)}"]`);
    if (!button || busy) return;
    event.preventDefault();
    button.click();
  });

  const box = document.getElementById("use-keys");
  if (box) box.checked = !localStorage.getItem(KEYS_OFF);
  prepare();
})();
