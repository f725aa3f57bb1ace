"use strict";

/** Bytes from base64. */
function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** An element with properties and children. */
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Cubic interpolation (a = -0.5) from `from` cells to `to`: four positions and four weights for each. */
function axis(from, to) {
  const cubic = (x) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0);
  return Array.from({ length: to }, (_, i) => {
    const center = ((i + 0.5) * from) / to - 0.5;
    const first = Math.floor(center) - 1;
    return [0, 1, 2, 3].map((j) => {
      const place = Math.min(from - 1, Math.max(0, first + j));
      return [place, cubic(Math.abs(center - first - j))];
    });
  });
}

/** A grid of bytes, enlarged to `width` and `height`. */
function grown(values, rows, columns, width, height) {
  const across = axis(columns, width);
  const down = axis(rows, height);
  const wide = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const [place, weight] of across[x]) sum += weight * values[row * columns + place];
      wide[row * width + x] = sum;
    }
  }
  const all = new Uint8ClampedArray(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      let sum = 0;
      for (const [place, weight] of down[y]) sum += weight * wide[place * width + x];
      all[y * width + x] = sum;
    }
  }
  return all;
}

/** Outlines a patch: a bright line between two dark ones, around the patch. */
function outline(context, [left, top, width, height], scale) {
  const line = Math.max(2, Math.round(context.canvas.width / 200));
  for (const [color, out, thick] of [["#000", 1.5 * line, 3 * line], ["#00ffc8", 1.5 * line, line]]) {
    context.strokeStyle = color;
    context.lineWidth = thick;
    context.strokeRect(left * scale - out, top * scale - out, width * scale + 2 * out, height * scale + 2 * out);
  }
}

/** Paints an image with a map over it. */
function paint(canvas, image, map, opacity, colors) {
  const { width, height } = canvas;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = image.naturalWidth > 100;
  context.drawImage(image, 0, 0, width, height);
  if (!map) return;
  const pixels = context.getImageData(0, 0, width, height);
  const values = grown(map.values, map.rows, map.columns, width, height);
  for (let i = 0; i < values.length; i++) {
    const at = 4 * i;
    const gray = 0.299 * pixels.data[at] + 0.587 * pixels.data[at + 1] + 0.114 * pixels.data[at + 2];
    for (let c = 0; c < 3; c++) {
      const beneath = 0.5 * gray + 0.5 * pixels.data[at + c];
      pixels.data[at + c] = opacity * colors[3 * values[i] + c] + (1 - opacity) * beneath;
    }
  }
  context.putImageData(pixels, 0, 0);
  if (map.marked) outline(context, map.marked, width / image.naturalWidth);
}

/** A number with three digits. */
function short(value) {
  if (value === null) return "not a number";
  const size = Math.abs(value);
  return value !== 0 && (size < 1e-3 || size >= 1e5) ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/** The legend of a map: its colors between the values that they stand for. */
function legend(low, high, scale, colors) {
  const bar = make("canvas", { width: 256, height: 1 });
  const context = bar.getContext("2d");
  for (let x = 0; x < 256; x++) {
    context.fillStyle = `rgb(${colors[3 * x]}, ${colors[3 * x + 1]}, ${colors[3 * x + 2]})`;
    context.fillRect(x, 0, 1, 1);
  }
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `Colors from ${short(low)} (dark) to ${short(high)} (bright)`);
  return make("div", { className: "scale" }, make("span", { textContent: short(low) }), bar,
    make("span", { textContent: short(high) }), make("span", { className: "soft", textContent: scale }));
}

/** The legend of principal components. */
function componentLegend() {
  const swatch = ([color, name]) => {
    const box = make("i");
    box.style.background = color;
    return make("span", {}, box, name);
  };
  return make("div", { className: "swatches" }, ...[["#e60000", "component 1"], ["#00e600", "component 2"], ["#0000e6", "component 3"]].map(swatch));
}

/** A slider with its name and value. */
function slider(name, last, value, format, change) {
  const shown = make("output", { value: format(value) });
  const input = make("input", { type: "range", min: 0, max: last, step: 1, value });
  input.setAttribute("aria-label", name);
  input.addEventListener("input", () => {
    shown.value = format(Number(input.value));
    change(Number(input.value));
  });
  return make("label", {}, name, input, shown);
}

const percent = (share) => (100 * share).toFixed(1) + " %";

function answerList(answers) {
  const row = ([label, share]) => {
    const bar = make("i");
    bar.style.width = `${100 * share}%`;
    return make("li", {}, make("span", { textContent: label }), make("div", { className: "bar" }, bar),
      make("span", { textContent: percent(share) }));
  };
  return make("ul", { className: "answers" }, ...answers.map(row));
}

function lensTable(lens) {
  const rows = lens.map(([answers, share], layer) => make("tr", {},
    make("td", { textContent: layer === 0 ? "input" : "layer " + (layer - 1) }),
    make("td", { textContent: answers.length ? answers[0][0] : "" }),
    make("td", { textContent: percent(answers.length ? answers[0][1] : 0) }),
    make("td", { textContent: percent(share) })));
  const head = make("tr", {}, ...["After", "Top class", "Probability", "Explained class"].map((textContent) => make("th", { textContent })));
  return make("details", {}, make("summary", { textContent: "Predictions of the head after each layer (logit lens)" }),
    make("div", { className: "table" }, make("table", {}, head, ...rows)));
}

/** One image with its prediction and maps. */
function card(image, data, colors) {
  const side = Math.max(image.width, image.height);
  const scale = side < 448 ? 448 / side : 1;
  const stage = make("canvas", { className: "stage", width: Math.round(image.width * scale), height: Math.round(image.height * scale) });
  stage.setAttribute("role", "img");
  const title = make("h3");
  const meaning = make("p");
  const paper = make("p", { className: "soft" });
  const sliders = make("div");
  const key = make("div");
  const strip = make("div", { className: "strip" });
  const state = { map: null, overlay: true, opacity: 0.65, layer: 0, head: 0 };
  const photo = new Image();
  const principal = image.colors ? new Image() : null;
  const heads = image.heads && { ...image.heads, values: bytes(image.heads.values) };
  const cells = heads ? heads.rows * heads.columns : 0;

  /** One head's map, or the mean of all if `head` is the number of heads. */
  function headMap(layer, head) {
    const { rows, columns } = heads;
    const at = (h) => heads.values.subarray((layer * heads.heads + h) * cells, (layer * heads.heads + h + 1) * cells);
    const range = (h) => heads.ranges[layer * heads.heads + h];
    if (head < heads.heads) return { rows, columns, values: at(head), low: range(head)[0], high: range(head)[1] };
    // Each head has a scale of its own, so the mean is taken over attention weights, not over colors.
    const mean = new Float32Array(cells);
    for (let h = 0; h < heads.heads; h++) {
      const [low, high] = range(h);
      at(h).forEach((value, i) => { mean[i] += (low + ((high - low) * value) / 255) / heads.heads; });
    }
    const low = Math.min(...mean);
    const high = Math.max(...mean);
    return { rows, columns, values: mean.map((value) => (high > low ? (255 * (value - low)) / (high - low) : 0)), low, high };
  }

  function repaint() {
    if (state.map === "principal") {
      stage.getContext("2d").drawImage(principal, 0, 0, stage.width, stage.height);
      key.replaceChildren(componentLegend());
    } else {
      const map = state.map === "heads" ? headMap(state.layer, state.head) : state.map;
      paint(stage, photo, map, state.opacity, colors);
      key.replaceChildren(...(map ? [legend(map.low, map.high, state.map === "heads" ? "attention weight" : map.scale, colors)] : []));
    }
  }

  function choose(button, map, about) {
    for (const other of strip.children) other.setAttribute("aria-pressed", String(other === button));
    state.map = map;
    const marked = map && map.marked ? " The patch is outlined." : "";
    title.textContent = about.title + (map && map.place ? ", " + map.place : "");
    meaning.textContent = about.meaning + marked;
    paper.textContent = about.paper;
    stage.setAttribute("aria-label", about.title + " of " + image.name);
    sliders.replaceChildren();
    if (map === "heads") {
      sliders.append(
        slider("Layer", heads.layers - 1, state.layer, String, (value) => { state.layer = value; repaint(); }),
        slider("Head", heads.heads, state.head, (value) => (value < heads.heads ? String(value) : "mean"), (value) => { state.head = value; repaint(); }));
    }
    if (map && map !== "principal") {
      sliders.append(slider("Opacity", 100, Math.round(100 * state.opacity), (value) => value + " %", (value) => { state.opacity = value / 100; repaint(); }));
    }
    repaint();
  }

  function choice(name, about, map, thumbnail) {
    const button = make("button", { type: "button" }, thumbnail, name);
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => choose(button, map, about));
    strip.append(button);
    return button;
  }

  function thumbnail(map) {
    const canvas = make("canvas", { width: 96, height: Math.max(1, Math.round((96 * image.height) / image.width)) });
    paint(canvas, photo, map, 0.65, colors);
    return canvas;
  }

  function build() {
    const own = { title: "The image", meaning: "As the model sees it, resized and cropped by its own preprocessing.", paper: "" };
    let first = choice("image", own, null, thumbnail(null));
    if (heads) {
      state.layer = heads.layers - 1;
      state.head = heads.heads;
      const about = {
        title: "Attention by layer and head",
        meaning: "The attention weights from the token that is read out (or the pooled tokens) to each patch. In early layers some heads attend locally and others globally; in late layers attention concentrates on what matters.",
        paper: "Dosovitskiy et al., arXiv:2010.11929, figure 6; Caron et al., arXiv:2104.14294",
      };
      first = choice("layers and heads", about, "heads", thumbnail(headMap(state.layer, state.head)));
    }
    image.maps.forEach((map, index) => {
      const about = data.methods[map.method];
      const decoded = { ...map, values: bytes(map.values), scale: about.scale };
      const button = choice(map.name, about, decoded, thumbnail(decoded));
      if (index === 0) first = button;
    });
    if (principal) {
      const about = {
        title: "Principal components as colors",
        meaning: "The first three principal components of the final patch tokens of all images, as red, green and blue: patches with the same color are similar to the model.",
        paper: "Oquab et al., arXiv:2304.07193",
      };
      choice("pca", about, "principal", make("img", { src: image.colors, alt: "" }));
    }
    first.click();
  }

  const ready = [photo, principal].filter(Boolean).map((source) => new Promise((done) => { source.onload = done; }));
  Promise.all(ready).then(build);
  photo.src = image.image;
  if (principal) principal.src = image.colors;

  const right = make("div", {}, make("h3", { textContent: image.name }),
    make("p", { className: "soft", textContent: "Explained: " + image.explained }), answerList(image.answers), strip, title, meaning, paper);
  if (image.lens.length) right.append(lensTable(image.lens));
  return make("article", { className: "card image" }, make("div", {}, stage, key, sliders), right);
}

function rankingTable(data) {
  const number = (value) => (value === null ? "" : value.toFixed(3));
  const heads = ["Map", "Deletion ↓", "Insertion ↑", "Shuffled → 0"];
  const rows = data.ranking.map((row) => make("tr", { className: row.baseline ? "baseline" : "" }, make("td", { textContent: row.title + (row.baseline ? " (the baseline)" : "") }),
    ...[row.deletion, row.insertion, row.shuffled].map((value) => make("td", { textContent: number(value) }))));
  const images = data.ranking[0].images;
  return [
    make("h2", { textContent: "Faithfulness of the maps" }),
    make("div", { className: "card" },
      make("div", { className: "table" }, make("table", {}, make("tr", {}, ...heads.map((textContent) => make("th", { textContent }))), ...rows)),
      make("p", { className: "soft", textContent: `Means over ${images} ${images === 1 ? "image" : "images"}; the score is ${data.score}.` }),
      make("ul", { className: "reading" }, ...data.reading.map((textContent) => make("li", { textContent }))),
      make("p", { className: "soft", textContent: "Petsiuk et al., arXiv:1806.07421; Adebayo et al., arXiv:1810.03292" })),
  ];
}

/** Fills the page. */
function show(data) {
  const colors = bytes(data.colors);
  document.getElementById("top").append(make("h1", { textContent: data.model }), make("p", { className: "soft", textContent: data.about + (data.made ? `. ${data.made}.` : "") }));
  if (data.ranking.length) {
    const section = document.getElementById("ranking");
    section.hidden = false;
    section.append(...rankingTable(data));
  }
  const images = document.getElementById("images");
  if (data.images.length) images.append(make("h2", { textContent: data.images.length === 1 ? "The image" : "Images" }));
  // Cards are built when they are about to scroll into view, since there may be many images.
  const near = new IntersectionObserver((seen) => {
    for (const { isIntersecting, target } of seen) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      target.replaceWith(card(data.images[Number(target.dataset.index)], data, colors));
    }
  }, { rootMargin: "600px" });
  data.images.forEach((image, index) => {
    const place = make("div", { className: "card", textContent: image.name });
    place.style.minHeight = "24rem";
    place.dataset.index = String(index);
    images.append(place);
    near.observe(place);
  });
  if (data.figures.length) {
    const section = document.getElementById("figures");
    section.hidden = false;
    const figure = (one) => make("article", { className: "card" }, make("h3", { textContent: one.title }),
      make("img", { src: one.image, alt: one.title }), make("p", { textContent: one.meaning }), make("p", { className: "soft", textContent: one.paper }));
    section.append(make("h2", { textContent: "Figures" }), make("div", { className: "figures" }, ...data.figures.map(figure)));
  }
}
