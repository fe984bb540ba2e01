/* Draws the charts of a page, and keeps what the reader has chosen in the address. Numbers, intervals and words come
   from the page's data, where Python has put them: nothing is computed here but what is shown, and in which order. */

"use strict";

(() => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const data = JSON.parse(document.getElementById("data").textContent);
  const controls = document.getElementById("controls");
  const root = document.documentElement;
  let latest = 0;

  /* What is shown, as in the address: baseline, order, hidden contenders and cases, sorted tables, a place. */

  let state = read();

  function read() {
    return new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  }

  function remember() {
    const address = `#${state}`;
    history.replaceState(null, "", address);
    const link = document.getElementById("view");
    if (link) link.href = address;
  }

  function choose(name, value) {
    if (value) state.set(name, value);
    else state.delete(name);
    remember();
  }

  const hidden = (name) => new Set(state.getAll(`without-${name}`));

  /* Charts */

  function view(figure) {
    return figure.views[state.get("baseline") ?? ""] ?? figure.views[""];
  }

  /* The contenders of a case in the order that was asked for; by ratio is how the data has them. */
  function order(figure) {
    const ratios = data.figures[`${figure.case}-ratio`] ?? figure;
    const values = view(ratios).spec.data.values.filter((each) => each.contender !== undefined);
    const names = [...new Set(values.map((each) => each.contender))];
    if (state.get("order") === "name") return names.sort((a, b) => a.localeCompare(b, "en"));
    if (state.get("order") !== "cost") return names;
    const cost = new Map(values.map((each) => [each.contender, each.median ?? Infinity]));
    return names.sort((a, b) => cost.get(a) - cost.get(b));
  }

  function arranged(things, name, names) {
    const without = hidden("contender");
    const places = new Map(names.map((each, number) => [each, number]));
    // What is of no contender, a band, comes first; who has no ratio comes last.
    const place = (thing) => (name(thing) === undefined ? -1 : places.get(name(thing)) ?? names.length);
    return things.filter((each) => !without.has(name(each))).sort((a, b) => place(a) - place(b));
  }

  function colours(narrow) {
    const { color: text, backgroundColor: ground } = getComputedStyle(document.body);
    const { borderBottomColor: faint } = getComputedStyle(document.querySelector("h2"));
    const axis = { labelColor: text, titleColor: text, gridColor: faint, domainColor: text, tickColor: text };
    return {
      background: ground,
      axis: narrow ? { ...axis, labelLimit: 120, labelFontSize: 11 } : axis,
      header: { labelColor: text, titleColor: text },
      legend: { labelColor: text, titleColor: text, columns: narrow ? 1 : 3 },
    };
  }

  function coloured(config, narrow) {
    const ours = Object.entries(colours(narrow));
    const merged = ours.map(([key, value]) => [key, typeof value === "string" ? value : { ...config[key], ...value }]);
    return { ...config, ...Object.fromEntries(merged) };
  }

  /* Legends of contenders name those that are there, in the colours that they always have. */
  function named(encoding, there) {
    const changed = Object.entries(encoding ?? {}).map(([channel, each]) => {
      if (each.field !== "contender" || !each.scale) return [channel, each];
      const kept = each.scale.domain.map((name, place) => [name, place]).filter(([name]) => there.has(name));
      const scale = { domain: kept.map(([name]) => name), range: kept.map(([, place]) => each.scale.range[place]) };
      return [channel, { ...each, scale }];
    });
    return Object.fromEntries(changed);
  }

  function fitted(spec, width, rows) {
    if (spec.facet) {
      const columns = Math.max(1, Math.min(3, Math.floor(width / 230)));
      const inner = Math.max(120, Math.floor((width - 60) / columns) - 24);
      return { ...spec, columns, spec: { ...spec.spec, width: inner } };
    }
    if (spec.width.step) return spec;
    const height = spec.height.step ? spec.height.step * rows : spec.height;
    return { ...spec, width, height, autosize: { type: "fit-x", contains: "padding" } };
  }

  async function draw(place, figure) {
    const chart = place.querySelector(".chart > div");
    const shown = view(figure);
    const names = order(figure);
    const values = arranged(shown.spec.data.values, (each) => each.contender, names);
    const width = Math.floor(chart.clientWidth);
    const there = new Set(values.map((each) => each.contender).filter((each) => each !== undefined));
    if (there.size === 0) {
      chart.replaceChildren(text("p", "Nobody is chosen."));
      return;
    }
    const spec = {
      ...fitted(shown.spec, width, there.size),
      data: { values },
      config: coloured(shown.spec.config, width < 480),
    };
    if (spec.layer) spec.layer = spec.layer.map((layer) => ({ ...layer, encoding: named(layer.encoding, there) }));
    if (spec.facet) spec.facet = { ...spec.facet, sort: names.filter((each) => there.has(each)) };
    // The interpreter needs no right to make code from text, which the page's policy forbids.
    await vegaEmbed(chart, spec, {
      actions: false, ast: true, defaultStyle: false, renderer: "svg", tooltip: { disableDefaultStyle: true },
    });
  }

  /* Words and tables beside them */

  function text(name, content) {
    const made = document.createElement(name);
    made.textContent = content;
    return made;
  }

  function describe(place, figure) {
    const shown = view(figure);
    place.querySelector("h3").textContent = shown.title;
    place.querySelector(".notes").replaceChildren(...shown.notes.map((each) => text("p", each)));
    place.querySelector(".chart").setAttribute("aria-label", shown.alt);
    place.querySelector(".scroll").setAttribute("aria-label", `Table: ${shown.title}`);
    const rows = arranged(shown.rows, (row) => row[0], order(figure)).map((row) => {
      const made = document.createElement("tr");
      made.append(...row.map((cell, number) => text(number ? "td" : "th", cell)));
      made.firstChild.scope = "row";
      return made;
    });
    const table = place.querySelector("table");
    table.querySelector("thead tr").replaceChildren(...shown.headers.map((each) => text("th", each)));
    table.querySelector("tbody").replaceChildren(...rows);
    sortable(table, `by-${place.dataset.figure}`);
  }

  /* A header sorts its table, by the number that a cell begins with or by its text; what has neither comes last. */
  function sortable(table, name) {
    const headers = all("thead th", table);
    headers.forEach((header, column) => {
      const button = text("button", header.textContent);
      button.type = "button";
      button.addEventListener("click", () => {
        const down = header.getAttribute("aria-sort") === "ascending";
        choose(name, `${down ? "-" : ""}${column + 1}`);
        sort(table, name);
      });
      header.scope = "col";
      header.replaceChildren(button);
    });
    sort(table, name);
  }

  function sort(table, name) {
    const wanted = Number.parseInt(state.get(name) ?? "", 10);
    const column = Math.abs(wanted) - 1;
    all("thead th", table).forEach((header, number) => {
      if (number === column) header.setAttribute("aria-sort", wanted < 0 ? "descending" : "ascending");
      else header.removeAttribute("aria-sort");
    });
    if (!(column >= 0)) return;
    const body = table.querySelector("tbody");
    const key = (row) => row.cells[column]?.textContent ?? "";
    const compare = (a, b) => {
      const [left, right] = [key(a), key(b)];
      if (left === "-" || right === "-") return (left === "-") - (right === "-");
      const numbers = [left, right].map((each) => (/^-?[\d.]+(?=$|[ [(])/.test(each) ? Number.parseFloat(each) : NaN));
      const by = numbers.some(Number.isNaN) ? left.localeCompare(right, "en") : numbers[0] - numbers[1];
      return wanted < 0 ? -by : by;
    };
    body.append(...[...body.rows].sort(compare));
  }

  /* The whole page */

  async function show() {
    const mine = ++latest;
    const without = hidden("case");
    all("[data-case]").forEach((section) => { section.hidden = without.has(section.dataset.case); });
    const places = all("[data-figure]").filter((place) => !place.closest("[hidden]"));
    places.forEach((place) => describe(place, data.figures[place.dataset.figure]));
    root.dataset.drawn = "";
    for (const place of places) {
      // Somebody has chosen something else in the meantime.
      if (mine !== latest) return;
      await draw(place, data.figures[place.dataset.figure]);
    }
    if (mine === latest) root.dataset.drawn = "all";
  }

  function fillControls() {
    if (!controls) return;
    for (const select of all("select", controls)) select.value = state.get(select.name) ?? "";
    for (const box of all("input", controls)) box.checked = !hidden(box.name).has(box.value);
  }

  function restore() {
    state = read();
    fillControls();
    remember();
    all("table[data-sortable]").forEach((table) => sort(table, "by"));
    const place = document.getElementById(state.get("at") ?? "");
    // Where things are is known when all of them are there.
    show().then(() => { if (place) go(place, "instant"); });
  }

  function go(place, behavior = "auto") {
    place.scrollIntoView({ behavior });
    (place.querySelector("h2") ?? place).focus({ preventScroll: true });
  }

  function listen() {
    controls?.addEventListener("change", ({ target }) => {
      if (target.type === "checkbox") {
        const others = [...hidden(target.name)].filter((each) => each !== target.value);
        state.delete(`without-${target.name}`);
        for (const each of target.checked ? others : [...others, target.value]) {
          state.append(`without-${target.name}`, each);
        }
        remember();
      } else {
        choose(target.name, target.value);
      }
      const shown = all("input:checked[name=contender]", controls).length;
      document.getElementById("status").textContent = `Charts and tables now show ${shown} rows.`;
      show();
    });
    controls?.addEventListener("submit", (event) => event.preventDefault());
    controls?.addEventListener("reset", (event) => {
      event.preventDefault();
      state = new URLSearchParams();
      fillControls();
      remember();
      show();
    });
    // Leaves what else is in the address as it is.
    for (const link of all(".contents a")) {
      link.addEventListener("click", (event) => {
        event.preventDefault();
        choose("at", link.hash.slice(1));
        go(document.getElementById(link.hash.slice(1)));
      });
    }
    window.addEventListener("hashchange", restore);
    let width = window.innerWidth;
    let waiting;
    window.addEventListener("resize", () => {
      clearTimeout(waiting);
      if (window.innerWidth !== width) waiting = setTimeout(() => { width = window.innerWidth; show(); }, 200);
    });
  }

  /* Light and dark: the system's choice, until somebody makes another one. */

  function theme() {
    const button = document.getElementById("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const name = () => { button.textContent = isDark() ? "Light" : "Dark"; };
    const kept = (value) => {
      // There may be no storage, above all for files.
      try { return value ? localStorage.setItem("theme", value) : localStorage.getItem("theme"); } catch { return null; }
    };
    if (["light", "dark"].includes(kept())) root.dataset.theme = kept();
    button.hidden = false;
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      kept(root.dataset.theme);
      name();
      show();
    });
    system.addEventListener("change", () => { name(); show(); });
    name();
  }

  theme();
  if (controls) controls.hidden = false;
  all("#without-script").forEach((sentence) => sentence.remove());
  all("table[data-sortable]").forEach((table) => sortable(table, "by"));
  listen();
  restore();
})();
