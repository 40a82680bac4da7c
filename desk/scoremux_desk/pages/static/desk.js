// Keys, and answers put into the page without loading it anew. Everything also works without this file.
"use strict";
(() => {
  const main = document.getElementById("main");
  const KEYS_OFF = "desk-keys-off", CLOSED = "desk-closed", SIZE = "desk-text-size";
  const highlights = new Map(); // text of a response → [start, end] of each highlight
  let busy = false;
  // Times are in milliseconds of performance.now(). A busy machine hands a press over late: its own time counts.
  let paintedAt = 0; // when the response was on the screen
  let pointerAt = 0; // when the pointer went down, until its click
  let keyAt = 0; // when the key went down whose button is clicked now
  let pressedAt = 0; // when the key or button went down that submits
  let least = 0; // between paintedAt and pressedAt
  const paints = window.PerformanceObserver && (PerformanceObserver.supportedEntryTypes || []).includes("element");
  const down = new Set(); // keys that are pressed
  const stale = new Set(); // those that were when the response appeared
  document.documentElement.classList.add("script");

  function prepare() {
    for (const more of main.querySelectorAll("details.more")) more.open = true;
    for (const beside of main.querySelectorAll(".beside details")) beside.open = !closed().has(titleOf(beside));
    drawHighlights();
    guard();
  }

  function guard() {
    // A response is read before it is decided: the time runs from when it is on the screen.
    const form = main.querySelector("[data-guard]");
    delete main.dataset.guarded;
    pressedAt = pointerAt = 0;
    paintedAt = form ? Infinity : 0;
    least = form ? 1000 * Number(form.dataset.guard) : 0;
    if (!form) return;
    for (const code of down) stale.add(code);
    main.dataset.guarded = "";
    form.style.setProperty("--guard", `${least}ms`);
    // Where the browser reports paints, this is for a response without anything to paint.
    const drawn = () => (paints ? setTimeout(startGuard, 3000, form) : startGuard(form));
    requestAnimationFrame(() => requestAnimationFrame(drawn));
  }

  function startGuard(form, time = performance.now()) {
    if (!form.isConnected || paintedAt < Infinity) return;
    paintedAt = time;
    setTimeout(() => form.isConnected && delete main.dataset.guarded, paintedAt + least - performance.now());
  }

  function tooSoon() {
    if (pressedAt - paintedAt >= least) return false;
    tell(main.dataset.tooSoon);
    return true;
  }

  async function send(form, button) {
    if (busy) return;
    busy = true;
    main.setAttribute("aria-busy", "true");
    const fields = new URLSearchParams(new FormData(form));
    if (button && button.name) fields.append(button.name, button.value);
    fields.append("after_ms", Math.floor(pressedAt - paintedAt));
    try {
      const target = button && button.hasAttribute("formaction") ? button.formAction : form.action;
      const answer = await fetch(target, { method: "POST", body: fields, headers: { "X-Desk": "1" } });
      if (answer.status === 401) return location.assign("/login");
      const before = written()?.data;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      main.replaceChildren(...page.body.childNodes);
      prepare();
      if (written()?.data !== before) scrollTo(0, 0); // the next trait of a response stays where the rater reads
      main.focus({ preventScroll: true });
    } catch {
      tell(main.dataset.noAnswer);
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
    // Some buttons take two presses; the first says what the second does.
    if (!button.dataset.confirm || button.classList.contains("armed")) return true;
    for (const other of main.querySelectorAll(".armed")) other.classList.remove("armed");
    button.classList.add("armed");
    tell(button.dataset.confirm);
    setTimeout(() => button.classList.remove("armed"), 4000);
    return false;
  }

  // What follows stays in this browser: which texts are closed, the text's size, and what is highlighted.
  function closed() {
    return new Set(JSON.parse(localStorage.getItem(CLOSED) || "[]"));
  }

  function titleOf(details) {
    return details.querySelector("summary").textContent;
  }

  document.addEventListener("toggle", ({ target }) => {
    if (!target.closest(".beside")) return;
    const titles = closed();
    titles[target.open ? "delete" : "add"](titleOf(target));
    localStorage.setItem(CLOSED, JSON.stringify([...titles]));
  }, true);

  function setSize(steps) {
    const size = Math.min(2.2, Math.max(0.7, Number(localStorage.getItem(SIZE) || 1) * 1.15 ** steps));
    if (steps) localStorage.setItem(SIZE, size);
    document.documentElement.style.setProperty("--text-size", size);
  }

  function written() {
    const text = main.querySelector(".paper .text:not(.compact)");
    if (text) text.normalize();
    return text && text.firstChild;
  }

  function selected() {
    const selection = getSelection();
    return selection.rangeCount && selection.anchorNode === written() && selection.focusNode === written() ? selection : null;
  }

  function drawHighlights() {
    if (!window.Highlight) return;
    const node = written();
    const ranges = ((node && highlights.get(node.data)) || []).map(([start, end]) => {
      const range = new Range();
      range.setStart(node, start);
      range.setEnd(node, end);
      return range;
    });
    CSS.highlights.set("mine", new Highlight(...ranges));
  }

  function highlight() {
    const node = written(), selection = selected();
    if (!node) return;
    if (!selection || selection.isCollapsed) {
      getSelection().collapse(node, 0);
      getSelection().modify("extend", "forward", "word");
      return tell(main.dataset.words);
    }
    const { startOffset: start, endOffset: end } = selection.getRangeAt(0);
    const all = highlights.get(node.data) || [];
    const others = all.filter(([from, to]) => to <= start || end <= from);
    highlights.set(node.data, others.length < all.length ? others : [...all, [start, end]]);
    selection.removeAllRanges();
    drawHighlights();
  }

  function select(event) {
    // Words of the response are selected with arrow keys, once one is.
    const selection = selected();
    const [direction, unit] = { ArrowRight: ["forward", "word"], ArrowLeft: ["backward", "word"], ArrowDown: ["forward", "line"], ArrowUp: ["backward", "line"] }[event.key] || [];
    if (!selection || selection.isCollapsed) return false;
    if (event.key === "Escape") return selection.removeAllRanges(), true;
    if (!direction) return false;
    if (event.shiftKey) return selection.modify("extend", direction, unit), true;
    if (direction === "forward") selection.collapseToEnd();
    else selection.collapseToStart();
    if (direction === "backward" || unit === "line") selection.modify("move", direction, unit);
    selection.modify("extend", "forward", "word");
    return true;
  }

  main.addEventListener("mousedown", (event) => {
    if (event.target.closest(".tools button")) event.preventDefault(); // keeps the selection
  });

  main.addEventListener("click", (event) => {
    const button = event.target.closest(".tools button");
    if (!button) return;
    if (button.dataset.size) setSize(Number(button.dataset.size));
    else highlight();
  });

  document.addEventListener("pointerdown", (event) => (pointerAt = event.timeStamp), true);

  document.addEventListener("click", (event) => {
    // Keys and assistive technology click without a pointer: `detail` is 0, or no pointer went down.
    pressedAt = keyAt || (event.detail && pointerAt) || event.timeStamp;
    pointerAt = 0;
  }, true);

  document.addEventListener("submit", (event) => {
    const { target: form, submitter: button } = event;
    if (!main.contains(form) || !main.querySelector(".reading, .strip")) return;
    event.preventDefault();
    if (!tooSoon() && (!button || confirmed(button))) send(form, button);
  });

  document.addEventListener("change", (event) => {
    if (event.target.id === "use-keys") localStorage.setItem(KEYS_OFF, event.target.checked ? "" : "1");
  });

  document.addEventListener("keyup", (event) => {
    down.delete(event.code);
    stale.delete(event.code);
  });

  addEventListener("blur", () => {
    down.clear();
    stale.clear();
  });

  document.addEventListener("keydown", (event) => {
    down.add(event.code);
    // In a tick box Enter presses the form's first button: a level.
    if (event.key === "Enter" && event.target.type === "checkbox" && event.target.form?.dataset.guard) {
      return event.preventDefault();
    }
    const field = event.target.closest("input:not([type=checkbox]), textarea, select");
    if (field) {
      if (event.key === "Escape") main.focus({ preventScroll: true });
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (select(event)) return event.preventDefault();
    if (event.repeat) return;
    if (stale.has(event.code)) return;
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
    if (busy) return;
    if (!button) {
      if (key.length === 1 && key.trim() && main.querySelector(".scoring")) tell(main.dataset.noKey.replace("{key}", key));
      return;
    }
    event.preventDefault();
    keyAt = event.timeStamp;
    button.click();
    keyAt = 0;
  });

  const box = document.getElementById("use-keys");
  if (box) box.checked = !localStorage.getItem(KEYS_OFF);
  setSize(0);
  prepare();
  if (paints) new PerformanceObserver((list) => {
    for (const { element, renderTime } of list.getEntries()) {
      if (main.contains(element)) startGuard(main.querySelector("[data-guard]"), renderTime);
    }
  }).observe({ type: "element", buffered: true });
})();
