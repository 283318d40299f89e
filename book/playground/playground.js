/* The playground: EM attention (em.js) on the features of one photograph, moved by the reader.

   The data come from a script of their own (cat.js), since a page that is opened from
   file:// may not fetch. */
"use strict";

(() => {
  const { criticalConcentration, distinctBases, distinctGroups, dot } = ema;
  const { expectationMaximization, meanOf, normalize, responsibilities } = ema;
  const { startingBases, widestPlane } = ema;

  // Okabe and Ito's colours, readable without full colour vision; circles for the first eight,
  // squares and a darker shade for the other bases. Numbers tell all of them apart.
  const HUES = [
    "#e69f00", "#56b4e9", "#009e73", "#f0e442",
    "#0072b2", "#d55e00", "#cc79a7", "#aaaaaa",
  ];
  const DARK = [
    "#8f6300", "#2a6f99", "#00573f", "#756e00",
    "#003f63", "#853a00", "#80425f", "#666666",
  ];
  const colorOf = (k) => (k < 8 ? HUES[k] : DARK[k - 8]);
  const inkOn = (k) => (k === 4 || k > 7 ? "#fff" : "#000");
  const SVG = "http://www.w3.org/2000/svg";
  const LOWEST = -2.3; // of log10 λ on the slider
  const HIGHEST = 0.7;

  const CONTROLS = `
    <div class="pg-controls">
      <label>Bases <i>K</i> <b data-of="bases"></b>
        <input type="range" name="bases" min="1" max="16" value="16"></label>
      <label>Iterations of a run <i>T</i> <b data-of="iterations"></b>
        <input type="range" name="iterations" min="1" max="40" value="10"></label>
      <label class="pg-lambda">Concentration <i>λ</i> <b data-of="concentration"></b>
        <input type="range" name="concentration" min="${LOWEST}" max="${HIGHEST}" step="0.02"
          value="0">
        <span class="pg-mark" aria-hidden="true"><span></span></span></label>
      <label>Normalisation of the bases
        <select name="normalization">
          <option value="l2">length 1 (the paper’s)</option>
          <option value="layer">LayerNorm</option>
          <option value="none">none</option>
          <option value="gaussian">none, Gaussian E step</option>
        </select></label>
      <label>Start
        <select name="start">
          <option value="random">random directions</option>
          <option value="pixels">pixels of the photograph</option>
        </select></label>
      <div class="pg-buttons">
        <button type="button" name="run">Run</button>
        <button type="button" name="step">Step</button>
        <button type="button" name="back">Back to the start</button>
        <button type="button" name="seed">Other start</button>
      </div>
    </div>
    <p class="pg-text" role="status" aria-live="polite"></p>
    <div class="pg-views">
      <figure class="pg-photo">
        <div class="pg-stage" tabindex="0" role="application"
             aria-label="Photograph. Arrow keys move over its pixels, Escape leaves them.">
          <img alt=""><canvas></canvas><span class="pg-cursor" hidden></span>
        </div>
        <figcaption>Each pixel in the colour of the basis that is most responsible for it. Point at
          a pixel, or tap it, to ask for its responsibilities.
          <label><input type="checkbox" name="colors" checked> colours</label></figcaption>
      </figure>
      <figure class="pg-plane">
        <svg viewBox="-1.12 -1.12 2.24 2.24" role="img"></svg>
        <figcaption>Directions of pixels (dots) and bases (numbers), with the bases’ way from the
          start, seen along the two directions in which pixels differ most. The circle has radius
          1.</figcaption>
      </figure>
      <figure class="pg-bars">
        <p class="pg-pixel" aria-live="polite"></p>
        <div role="group" aria-label="Bases. Press one to see where it is responsible."></div>
        <figcaption>Press a basis to light up where it is responsible.</figcaption>
      </figure>
      <figure class="pg-chart">
        <svg viewBox="0 0 360 210" role="img"></svg>
        <figcaption>The objective <i>F</i>, per pixel, after each iteration. A triangle marks a
          fall.</figcaption>
      </figure>
    </div>
    <p class="pg-credit"></p>`;

  function svg(parent, tag, attributes, text) {
    const element = parent.appendChild(document.createElementNS(SVG, tag));
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  /** Set a text only if it is another one: screen readers read out what is set. */
  function say(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  const short = (value) => Number(value.toPrecision(2)).toString();
  const percent = (share) => (share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`);
  const basesNumber = (count) => (count === 1 ? "1 basis" : `${count} bases`);
  const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

  /** At which iterations F fell (beyond rounding), and whether it rose at all others. */
  function changes(values) {
    const fell = [];
    let rose = true;
    for (let t = 1; t < values.length; t++) {
      const change = values[t] - values[t - 1];
      const rounding = 1e-9 * Math.abs(values[t - 1]);
      if (change < -rounding) fell.push(t);
      else if (change <= rounding) rose = false;
    }
    return { fell, rose };
  }

  /** What is seen, in words. */
  function describe(t, bases, values, lambda, critical) {
    const directions = distinctBases(bases);
    const when = t === 0 ? "At the start" : `After ${plural(t, "iteration")}`;
    const point = bases.length === 1 ? "points" : "point";
    const where = directions === 1 ? "one direction" : `${directions} different directions`;
    let text = `${when} ${basesNumber(bases.length)} ${point} in ${where}`;
    if (t > 0) {
      const { fell, rose } = changes(values.slice(0, t + 1));
      if (fell.length > 3) text += `; F fell ${fell.length} times`;
      else if (fell.length > 0) text += `; F fell at iteration ${fell.join(", ")}`;
      else text += rose ? "; F rose at every step" : "; F rose until it stood still";
    }
    const side = lambda < critical ? "below" : "above";
    const mark = `this image’s critical value ${short(critical)}`;
    return `${text}. λ\u00a0=\u00a0${short(lambda)} is ${side} ${mark}.`;
  }

  function startPlayground(root, data) {
    const x = data.features.map((row) => Float64Array.from(row, (value) => value / 100));
    const plane = widestPlane(x);
    const onPlane = (vector) => plane.map((axis) => dot(normalize(vector, "l2"), axis));
    root.innerHTML = CONTROLS;
    const find = (selector) => root.querySelector(selector);
    const control = (name) => find(`[name=${name}]`);
    const [stage, canvas, cursor] = [".pg-stage", "canvas", ".pg-cursor"].map(find);
    const [planeView, chart, bars] = [".pg-plane svg", ".pg-chart svg", ".pg-bars div"].map(find);
    find("img").src = data.photograph;
    [canvas.width, canvas.height] = [data.width, data.height];
    find(".pg-credit").textContent =
      `Photograph: ${data.credit}. Features: ${data.origin}; ` +
      `${x[0].length} dimensions with ${percent(data.share)} of their squared length.`;

    // What is chosen, and what follows from it.
    const state = { t: 0, seed: 1, pixel: null, basis: null, timer: null };
    let [run, z, group] = [null, null, null];
    const critical = {};
    for (const name of ["l2", "layer", "none", "gaussian"]) {
      critical[name] = criticalConcentration(x, name);
    }

    function choices() {
      return {
        count: Number(control("bases").value),
        iterations: Number(control("iterations").value),
        lambda: 10 ** Number(control("concentration").value),
        normalization: control("normalization").value,
        start: control("start").value,
      };
    }

    /** Run EM anew from μ^(0); the iteration on view stays, a finished run stays finished. */
    function compute() {
      const { count, iterations, lambda, normalization, start } = choices();
      const finished = run !== null && state.t > 0 && state.t === run.objective.length - 1;
      const bases = startingBases(x, count, normalization, start, state.seed);
      run = expectationMaximization(x, bases, iterations, lambda, normalization);
      state.t = finished ? iterations : Math.min(state.t, iterations);
      if (state.basis !== null && state.basis >= count) state.basis = null;
      show();
    }

    function show() {
      const { lambda, normalization } = choices();
      const bases = run.path[state.t];
      z = responsibilities(x, bases, lambda, normalization);
      group = distinctGroups(bases);
      showControls();
      showMap();
      showPlane();
      showBars();
      showChart();
      const text = find(".pg-text");
      // A running text would be read out at every step: readers hear the last one.
      text.setAttribute("aria-busy", String(state.timer !== null));
      say(text, describe(state.t, bases, run.objective, lambda, critical[normalization]));
    }

    function showControls() {
      const { count, iterations, lambda, normalization } = choices();
      const values = { bases: count, iterations, concentration: short(lambda) };
      for (const shown of root.querySelectorAll("[data-of]")) {
        shown.textContent = values[shown.dataset.of];
      }
      const mark = critical[normalization];
      const side = lambda < mark ? "below" : "above";
      const spoken = `${short(lambda)}, ${side} the critical value ${short(mark)}`;
      control("concentration").setAttribute("aria-valuetext", spoken);
      find(".pg-mark").style.setProperty(
        "--share", (Math.log10(mark) - LOWEST) / (HIGHEST - LOWEST),
      );
      find(".pg-mark span").textContent = `critical: ${short(mark)}`;
      control("run").textContent = state.timer === null ? "Run" : "Pause";
      // Not "disabled": the button that has just been pressed would lose the keyboard's focus.
      control("step").setAttribute("aria-disabled", String(state.t >= iterations));
      control("back").setAttribute("aria-disabled", String(state.t === 0));
    }

    /** Responsibility of all bases that coincide with basis k. */
    const together = (row, k) => row.reduce((s, v, j) => (group[j] === group[k] ? s + v : s), 0);

    function strongest(row) {
      const totals = new Float64Array(row.length);
      row.forEach((value, k) => (totals[group[k]] += value));
      return totals.indexOf(Math.max(...totals));
    }

    function showMap() {
      const context = canvas.getContext("2d");
      const picture = context.createImageData(data.width, data.height);
      z.forEach((row, n) => {
        if (state.basis !== null) {
          picture.data.set([0, 0, 0, 225 * (1 - together(row, state.basis))], 4 * n);
        } else if (control("colors").checked) {
          const color = parseInt(colorOf(strongest(row)).slice(1), 16);
          picture.data.set([color >> 16, (color >> 8) & 255, color & 255, 150], 4 * n);
        }
      });
      context.putImageData(picture, 0, 0);
    }

    // Pixels do not move: they are drawn once.
    const points = x.map((pixel) => `M${onPlane(pixel).map((v) => v.toFixed(3)).join(" ")}h0`);
    svg(planeView, "circle", { r: 1, class: "pg-circle" });
    svg(planeView, "path", { d: points.join(""), class: "pg-points" });
    const here = svg(planeView, "circle", { r: 0.04, class: "pg-here" });
    const moving = svg(planeView, "g", {});

    function showPlane() {
      moving.replaceChildren();
      run.path[0].forEach((_, k) => {
        const way = run.path.slice(0, state.t + 1).map((bases) => onPlane(bases[k]));
        svg(moving, "polyline", { points: way.join(" "), class: "pg-way" });
      });
      run.path[state.t].forEach((basis, k) => {
        const faint = state.basis !== null && group[k] !== group[state.basis];
        const place = `translate(${onPlane(basis)})`;
        const one = svg(moving, "g", { transform: place, class: faint ? "pg-faint" : "" });
        const shape = k < 8 ? { r: 0.07 } : { x: -0.065, y: -0.065, width: 0.13, height: 0.13 };
        svg(one, k < 8 ? "circle" : "rect", { ...shape, fill: colorOf(k), class: "pg-basis" });
        svg(one, "text", { y: 0.032, style: `fill: ${inkOn(k)}` }, k + 1);
        one.addEventListener("click", () => choose(k));
        moving.insertBefore(one, moving.querySelector("g")); // the first of a group on top
      });
      run.path[state.t].forEach((basis, k) => {
        const size = group.filter((other) => other === k).length;
        const [left, top] = onPlane(basis);
        if (size > 1) svg(moving, "text", { x: left, y: top + 0.16, class: "pg-size" }, `×${size}`);
      });
      const seen = `Directions of ${x.length} pixels and ${basesNumber(run.path[0].length)}`;
      planeView.setAttribute("aria-label", seen);
      showHere();
    }

    function showHere() {
      here.style.display = state.pixel === null ? "none" : "";
      if (state.pixel === null) return;
      const [left, top] = onPlane(x[state.pixel]);
      here.setAttribute("cx", left);
      here.setAttribute("cy", top);
    }

    function showBars() {
      const count = run.path[0].length;
      while (bars.children.length > count) bars.lastChild.remove();
      while (bars.children.length < count) {
        const k = bars.children.length;
        const button = bars.appendChild(document.createElement("button"));
        button.type = "button";
        button.innerHTML = `<b>${k + 1}</b><span><i></i></span><em></em>`;
        button.addEventListener("click", () => choose(k));
      }
      const all = state.pixel === null;
      const shares = all ? meanOf(z) : z[state.pixel];
      [...bars.children].forEach((button, k) => {
        const [number, bar, share] = ["b", "i", "em"].map((tag) => button.querySelector(tag));
        number.className = k < 8 ? "" : "pg-square";
        number.style.cssText = `background: ${colorOf(k)}; color: ${inkOn(k)}`;
        bar.style.cssText = `width: ${100 * shares[k]}%; background: ${colorOf(group[k])}`;
        share.textContent = percent(shares[k]);
        button.setAttribute("aria-label", `Basis ${k + 1}: ${percent(shares[k])}`);
        button.setAttribute("aria-pressed", String(state.basis === k));
      });
      say(find(".pg-pixel"), all ? "Responsibilities, mean over all pixels" : pixelInWords());
    }

    function pixelInWords() {
      const [row, column] = placeOf(state.pixel);
      const first = strongest(z[state.pixel]);
      const others = group.filter((other) => other === first).length - 1;
      const who = `basis ${first + 1}${others ? ` and ${others} more in its place` : ""}`;
      const share = percent(together(z[state.pixel], first));
      return `Pixel in row ${row + 1}, column ${column + 1}: ${who}, ${share}`;
    }

    function showChart() {
      const values = run.objective.map((value) => value / x.length);
      const [low, high] = [Math.min(...values), Math.max(...values)];
      const last = values.length - 1;
      const left = (t) => 58 + (290 * t) / last;
      const top = (value) => (high - low < 1e-12 ? 90 : 170 - (150 * (value - low)) / (high - low));
      const { fell } = changes(run.objective);
      chart.replaceChildren();
      svg(chart, "path", { d: "M50 10V180H355", class: "pg-axis" });
      for (const value of high - low < 1e-12 ? [low] : [low, high]) {
        svg(chart, "text", { x: 45, y: top(value) + 4, class: "pg-left" }, value.toFixed(2));
      }
      for (const t of [0, last]) svg(chart, "text", { x: left(t), y: 197 }, t);
      svg(chart, "text", { x: 203, y: 197 }, "iteration");
      const seen = values.slice(0, state.t + 1);
      const line = seen.map((value, t) => [left(t), top(value)]);
      svg(chart, "polyline", { points: line.join(" "), class: "pg-line" });
      line.forEach(([cx, cy], t) => {
        if (fell.includes(t)) {
          svg(chart, "path", { d: `M${cx - 6} ${cy - 5}h12l-6 11z`, class: "pg-fall" });
        } else svg(chart, "circle", { cx, cy, r: 3.5, class: "pg-dot" });
      });
      const words = `F per pixel from ${seen[0].toFixed(2)} to ${seen[state.t].toFixed(2)} nats`;
      chart.setAttribute("aria-label", `${words}, ${plural(state.t, "iteration")}`);
    }

    function choose(k) {
      state.basis = state.basis === k ? null : k;
      show();
    }

    const placeOf = (pixel) => [Math.floor(pixel / data.width), pixel % data.width];

    function point(pixel) {
      state.pixel = pixel;
      cursor.hidden = pixel === null;
      if (pixel !== null) {
        const [row, column] = placeOf(pixel);
        cursor.style.left = `${(100 * column) / data.width}%`;
        cursor.style.top = `${(100 * row) / data.height}%`;
        cursor.style.width = `${100 / data.width}%`;
        cursor.style.height = `${100 / data.height}%`;
      }
      showBars();
      showHere();
    }

    function pause() {
      clearInterval(state.timer);
      state.timer = null;
    }

    function step() {
      // The run's own end: that on the slider may be newer than the run.
      if (state.t < run.path.length - 1) state.t += 1;
      if (state.t === run.path.length - 1) pause();
      show();
    }

    const pressed = {
      run() {
        if (state.timer !== null) {
          pause();
          return show();
        }
        if (state.t === run.path.length - 1) state.t = 0;
        state.timer = setInterval(step, 350);
        return show();
      },
      step() {
        pause();
        step();
      },
      back() {
        pause();
        state.t = 0;
        show();
      },
      seed() {
        state.seed += 1;
        compute();
      },
    };
    for (const [name, act] of Object.entries(pressed)) control(name).addEventListener("click", act);
    control("colors").addEventListener("change", showMap);

    // While a slider is dragged, EM runs once a frame at most.
    let waiting = false;
    root.addEventListener("input", (event) => {
      if (event.target.name === "colors" || waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        compute();
      });
    });

    function pointed(event) {
      const box = stage.getBoundingClientRect();
      const inside = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
      const column = inside((event.clientX - box.left) / box.width, data.width);
      const row = inside((event.clientY - box.top) / box.height, data.height);
      point(row * data.width + column);
    }
    stage.addEventListener("pointermove", pointed);
    stage.addEventListener("pointerdown", pointed);
    stage.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") point(null); // a tapped pixel stays
    });
    stage.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
      if (event.key === "Escape") return point(null);
      if (!(event.key in moves)) return undefined;
      event.preventDefault();
      const middle = [data.height >> 1, data.width >> 1];
      const moved = placeOf(state.pixel).map((value, i) => value + moves[event.key][i]);
      const [row, column] = state.pixel === null ? middle : moved;
      if (row < 0 || row >= data.height || column < 0 || column >= data.width) return undefined;
      return point(row * data.width + column);
    });

    compute();
    point(null);
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.getElementById("ema-playground");
    if (root && window.emaPlayground) startPlayground(root, window.emaPlayground);
  });
})();
