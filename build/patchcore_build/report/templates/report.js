"use strict";
/* The report's filters, large view and threshold to try.
   The page is whole without this script; it recomputes what the page already says. An image is
   flagged if its score is greater than the threshold, as in the product. */
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("report-data").textContent);
  const images = data.images.map(([kind, isAnomalous, score]) => ({ kind, isAnomalous, score }));
  const cards = [...document.querySelectorAll(".card")].map((element) => ({
    element,
    image: images[Number(element.dataset.number)],
    number: Number(element.dataset.number),
    name: element.querySelector("h3").textContent,
    outcome: element.querySelector(".outcome"),
  }));
  const state = { threshold: data.threshold, verdict: "", kind: "", sort: "", image: "" };
  let shown = cards;

  function verdictOf(image) {
    const isFlagged = image.score > state.threshold;
    if (image.isAnomalous) return isFlagged ? "found" : "missed";
    return isFlagged ? "false alarm" : "passed";
  }

  const isRight = (image) => ["found", "passed"].includes(verdictOf(image));

  function fourDigits(value) {
    const size = Math.abs(value);
    const words = size && size < 1e-4 ? value.toExponential(3) : value.toPrecision(4);
    return words.replace(/e([+-])(\d)$/, "e$10$2");
  }

  const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}%` : "–");

  /* Every element that is marked with the name shows the words. */
  function show(name, words) {
    for (const element of document.querySelectorAll(`[data-live="${name}"]`)) {
      element.textContent = words;
      if (element.tagName === "DATA") element.value = String(words);
    }
  }

  function moveMark(chart, across, upward) {
    const mark = byId(`${chart}-at-threshold`);
    if (mark) mark.setAttribute("transform", `translate(${across} ${upward})`);
  }

  function showThreshold() {
    const isTried = state.threshold !== data.threshold;
    const counts = { found: 0, missed: 0, "false alarm": 0, passed: 0 };
    const flagged = data.kinds.map(() => 0);
    for (const image of images) {
      counts[verdictOf(image)] += 1;
      if (image.score > state.threshold) flagged[image.kind] += 1;
    }
    const defects = counts.found + counts.missed;
    const good = counts["false alarm"] + counts.passed;
    for (const [name, count] of Object.entries(counts)) show(name.replace(" ", "-"), count);
    flagged.forEach((count, kind) => show(`kind-${kind}`, count));
    show("all", images.length);
    show("threshold", fourDigits(state.threshold));
    show("true-positive-rate", percent(counts.found, defects));
    show("false-positive-rate", percent(counts["false alarm"], good));
    show("found-share", `${counts.found} of ${defects}`);
    show("alarm-share", `${counts["false alarm"]} of ${good}`);
    document.querySelector(".tried").hidden = !isTried;
    byId("reset").disabled = !isTried;
    for (const card of cards) {
      card.outcome.textContent = verdictOf(card.image);
      card.outcome.className = `outcome ${isRight(card.image) ? "right" : "wrong"}`;
    }
    const [scorePt] = data.units.histogram;
    const { min, max } = byId("slider");
    byId("histogram-at-threshold").style.visibility =
      state.threshold < Number(min) || state.threshold > Number(max) ? "hidden" : "visible";
    moveMark("histogram", (state.threshold - data.threshold) * scorePt, 0);
    if (data.units.roc && defects && good) moveRocMark(counts, defects, good);
  }

  /* The dot was drawn at the rates of the artifact's threshold. */
  function moveRocMark(counts, defects, good) {
    const above = (isAnomalous) =>
      images.filter((one) => !one.isAnomalous !== isAnomalous && one.score > data.threshold).length;
    const [acrossPt, upwardPt] = data.units.roc;
    const across = (counts["false alarm"] - above(false)) / good;
    const upward = (counts.found - above(true)) / defects;
    moveMark("roc", across * acrossPt, upward * upwardPt);
  }

  /* The most confusing first: wrong verdicts, then the smallest margin, as the page is written. */
  function margin(image) {
    return image.isAnomalous ? image.score - state.threshold : state.threshold - image.score;
  }
  const orders = {
    "": (a, b) => isRight(a.image) - isRight(b.image) || margin(a.image) - margin(b.image),
    highest: (a, b) => b.image.score - a.image.score,
    lowest: (a, b) => a.image.score - b.image.score,
  };

  const matches = (image) =>
    (!state.verdict || verdictOf(image) === state.verdict) &&
    (!state.kind || image.kind === Number(state.kind));

  function showCards() {
    for (const card of cards) card.element.hidden = !matches(card.image);
    const sorted = [...cards].sort((a, b) => orders[state.sort](a, b) || a.number - b.number);
    byId("cards").append(...sorted.map((card) => card.element));
    shown = sorted.filter((card) => matches(card.image));
    const matching = images.filter(matches).length;
    const few = shown.length < matching ? `, ${shown.length} of them on this page` : "";
    show("matching", `${matching} of ${images.length} images match${few}.`);
  }

  function showLarge() {
    const place = shown.findIndex((card) => String(card.number) === state.image);
    const dialog = byId("large");
    if (place < 0) {
      state.image = "";
      if (dialog.open) dialog.close();
      return;
    }
    const card = shown[place];
    byId("large-name").textContent = card.name;
    byId("large-place").textContent = `${place + 1} of ${shown.length}`;
    byId("large-kind").textContent = data.kinds[card.image.kind];
    byId("large-score").textContent = fourDigits(card.image.score);
    byId("large-threshold").textContent = fourDigits(state.threshold);
    byId("large-p-value").textContent = fourDigits(Number(card.element.dataset.pValue));
    byId("large-verdict").textContent = verdictOf(card.image);
    byId("large-verdict").className = card.outcome.className;
    const views = [...card.element.querySelectorAll("figure")].map((one) => one.cloneNode(true));
    byId("large-views").replaceChildren(...views);
    byId("previous").disabled = place === 0;
    byId("next").disabled = place === shown.length - 1;
    if (!dialog.open) dialog.showModal();
  }

  /* The address keeps what differs from the page as it was written, so that it can be passed on. */
  function keepInAddress() {
    const kept = new URLSearchParams();
    for (const [name, value] of Object.entries(state)) {
      if (value !== "" && value !== (name === "threshold" ? data.threshold : "")) {
        kept.set(name, name === "kind" ? data.kinds[Number(value)] : value);
      }
    }
    const words = kept.toString();
    if (words || location.hash.includes("=")) {
      history.replaceState(null, "", `${location.pathname}${location.search}#${words}`);
    }
  }

  function readAddress() {
    const kept = new URLSearchParams(location.hash.slice(1));
    const threshold = Number(kept.get("threshold") || Infinity);
    state.threshold = Number.isFinite(threshold) ? threshold : data.threshold;
    const kind = data.kinds.indexOf(kept.get("kind"));
    state.kind = kind < 0 ? "" : String(kind);
    const verdict = [...byId("filters").elements.verdict].find(
      (choice) => choice.value === (kept.get("verdict") ?? ""),
    );
    state.verdict = verdict ? verdict.value : "";
    state.sort = Object.hasOwn(orders, kept.get("sort") ?? "") ? (kept.get("sort") ?? "") : "";
    state.image = kept.get("image") ?? "";
    byId("slider").value = byId("exact").value = String(state.threshold);
    byId("filters").elements.verdict.value = state.verdict;
    byId("kind").value = state.kind;
    byId("sort").value = state.sort;
  }

  function showAll() {
    showThreshold();
    showCards();
    showLarge();
    keepInAddress();
  }

  function change(changes) {
    Object.assign(state, changes);
    showAll();
  }

  function step(places) {
    const place = shown.findIndex((card) => String(card.number) === state.image) + places;
    if (shown[place]) change({ image: String(shown[place].number) });
  }

  function listen() {
    byId("slider").addEventListener("input", (event) => {
      byId("exact").value = event.target.value;
      change({ threshold: Number(event.target.value) });
    });
    byId("exact").addEventListener("input", (event) => {
      if (!event.target.validity.valid) return;
      byId("slider").value = event.target.value;
      change({ threshold: Number(event.target.value) });
    });
    byId("reset").addEventListener("click", () => {
      byId("slider").value = byId("exact").value = String(data.threshold);
      change({ threshold: data.threshold });
    });
    for (const form of [byId("trial"), byId("filters")]) {
      form.addEventListener("submit", (event) => event.preventDefault());
    }
    byId("filters").addEventListener("change", () => {
      const verdict = byId("filters").elements.verdict.value;
      change({ verdict, kind: byId("kind").value, sort: byId("sort").value });
    });
    for (const card of cards) {
      const open = () => change({ image: String(card.number) });
      card.element.querySelector(".views").addEventListener("click", open);
      card.element.querySelector(".enlarge").addEventListener("click", open);
    }
    byId("previous").addEventListener("click", () => step(-1));
    byId("next").addEventListener("click", () => step(1));
    byId("close").addEventListener("click", () => change({ image: "" }));
    document.addEventListener("keydown", (event) => {
      if (!byId("large").open) return;
      if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "ArrowRight") step(1);
    });
    byId("large").addEventListener("close", () => change({ image: "" }));
    byId("large").addEventListener("click", (event) => {
      if (event.target === byId("large")) change({ image: "" });
    });
    addEventListener("hashchange", () => {
      if (location.hash.includes("=") || !location.hash) {
        readAddress();
        showAll();
      }
    });
  }

  for (const element of document.querySelectorAll("#trial, #filters, .enlarge")) {
    element.hidden = false;
  }
  document.documentElement.classList.add("scripted");
  readAddress();
  listen();
  showAll();
})();
