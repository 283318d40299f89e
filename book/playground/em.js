/* EM attention in JavaScript: function for function that of the Python package (emastudy.em and
   emastudy.em.gradients), to which tests hold it. The letters are the book's:

     x       N rows of C numbers, the features of the pixels
     bases   K rows of C numbers, μ
     z       N rows of K numbers, the responsibilities
     lambda  the concentration of the softmax, λ */
"use strict";

const ema = (() => {
  function dot(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
    return sum;
  }
  const norm = (a) => Math.sqrt(dot(a, a));
  const scaled = (a, factor) => a.map((value) => value * factor);

  function normalize(vector, normalization) {
    if (normalization === "l2") return scaled(vector, 1 / Math.max(norm(vector), 1e-12));
    if (normalization !== "layer") return vector;
    const mean = vector.reduce((sum, value) => sum + value, 0) / vector.length;
    const centred = vector.map((value) => value - mean);
    return scaled(centred, 1 / Math.sqrt(dot(centred, centred) / vector.length + 1e-5));
  }

  /** The exponents λ xᵀμ of one pixel; those of the Gaussian also have -λ‖μ‖²/2. */
  function logits(pixel, bases, lambda, normalization) {
    return bases.map((basis) => {
      const half = normalization === "gaussian" ? 0.5 * dot(basis, basis) : 0;
      return lambda * (dot(pixel, basis) - half);
    });
  }

  function logSumExp(values) {
    const top = Math.max(...values);
    let sum = 0;
    for (const value of values) sum += Math.exp(value - top);
    return top + Math.log(sum);
  }

  /** E step: z_nk = exp(λ x_nᵀμ_k) / Σ_j exp(λ x_nᵀμ_j). */
  function responsibilities(x, bases, lambda, normalization) {
    return x.map((pixel) => {
      const values = logits(pixel, bases, lambda, normalization);
      const top = Math.max(...values);
      const weights = values.map((value) => Math.exp(value - top));
      return scaled(weights, 1 / weights.reduce((sum, weight) => sum + weight));
    });
  }

  /** M step: every basis becomes the mean of the pixels, weighted by z, and is normalised. */
  function updateBases(x, z, normalization) {
    return Array.from(z[0], (_, k) => {
      const sum = new Float64Array(x[0].length);
      let mass = 0;
      x.forEach((pixel, n) => {
        const weight = z[n][k];
        mass += weight;
        for (let c = 0; c < sum.length; c++) sum[c] += weight * pixel[c];
      });
      return normalize(scaled(sum, 1 / Math.max(mass, 1e-300)), normalization);
    });
  }

  /** F(μ) = Σ_n log Σ_k exp(λ x_nᵀμ_k), in nats. */
  function objective(x, bases, lambda, normalization) {
    const terms = x.map((pixel) => logSumExp(logits(pixel, bases, lambda, normalization)));
    return terms.reduce((sum, term) => sum + term);
  }

  /** μ^(0), …, μ^(T) with F of each, and Z^(T), which comes from μ^(T-1). */
  function expectationMaximization(x, start, iterations, lambda, normalization) {
    const path = [start];
    let z = null;
    for (let t = 0; t < iterations; t++) {
      z = responsibilities(x, path[t], lambda, normalization);
      path.push(updateBases(x, z, normalization));
    }
    const values = path.map((bases) => objective(x, bases, lambda, normalization));
    return { path, bases: path[iterations], responsibilities: z, objective: values };
  }

  /** Eigenvalues of a symmetric matrix, largest first, and eigenvectors, by Jacobi's rotations. */
  function symmetricEigen(matrix) {
    const size = matrix.length;
    const a = matrix.map((row) => [...row]);
    const v = a.map((row, i) => row.map((_, j) => Number(i === j)));
    const trace = a.reduce((sum, row, i) => sum + Math.abs(row[i]), 0);
    const turn = (m, i, j, k, l, s, tau) => {
      const [g, h] = [m[i][j], m[k][l]];
      m[i][j] = g - s * (h + g * tau);
      m[k][l] = h + s * (g - h * tau);
    };
    for (let sweep = 0; sweep < 60; sweep++) {
      let off = 0;
      a.forEach((row, p) => row.slice(p + 1).forEach((value) => (off += Math.abs(value))));
      if (off <= 1e-15 * trace) break;
      for (let p = 0; p < size; p++) {
        for (let q = p + 1; q < size; q++) {
          if (a[p][q] === 0) continue;
          const theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
          const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1));
          const c = 1 / Math.hypot(t, 1);
          const [s, tau] = [t * c, (t * c) / (1 + c)];
          a[p][p] -= t * a[p][q];
          a[q][q] += t * a[p][q];
          a[p][q] = 0;
          for (let i = 0; i < p; i++) turn(a, i, p, i, q, s, tau);
          for (let i = p + 1; i < q; i++) turn(a, p, i, i, q, s, tau);
          for (let i = q + 1; i < size; i++) turn(a, p, i, q, i, s, tau);
          for (let i = 0; i < size; i++) turn(v, i, p, i, q, s, tau);
        }
      }
    }
    const order = a.map((_, i) => i).sort((i, j) => a[j][j] - a[i][i]);
    return { values: order.map((i) => a[i][i]), vectors: order.map((i) => v.map((row) => row[i])) };
  }

  const meanOf = (x) => scaled(x.reduce((m, p) => m.map((v, c) => v + p[c])), 1 / x.length);

  function secondMoments(x) {
    return Array.from(x[0], (_, i) =>
      Array.from(x[0], (_, j) => x.reduce((sum, pixel) => sum + pixel[i] * pixel[j], 0) / x.length),
    );
  }

  /** λ_c = ‖m‖ / λ_max(PSP): below it, bases that are all in one place stay together. */
  function criticalConcentration(x, normalization) {
    let pixels = x;
    if (normalization === "layer") {
      pixels = x.map((pixel) => {
        const middle = pixel.reduce((sum, value) => sum + value, 0) / pixel.length;
        return pixel.map((value) => Math.sqrt(pixel.length) * (value - middle));
      });
    }
    const mean = meanOf(pixels);
    const flat = normalization === "none" || normalization === "gaussian";
    const direction = normalize(mean, "l2");
    const apart = pixels.map((pixel) => {
      const along = dot(pixel, direction);
      return pixel.map((value, c) => value - (flat ? mean[c] : along * direction[c]));
    });
    return (flat ? 1 : norm(mean)) / symmetricEigen(secondMoments(apart)).values[0];
  }

  /** For every basis the first basis that it coincides with, directly or through a chain. */
  function distinctGroups(bases, cosine = 0.99) {
    const unit = bases.map((basis) => normalize(basis, "l2"));
    const group = bases.map((_, k) => k);
    for (let k = 0; k < bases.length; k++) {
      for (let j = 0; j < k; j++) {
        if (group[k] === group[j] || dot(unit[k], unit[j]) <= cosine) continue;
        const [low, high] = [Math.min(group[k], group[j]), Math.max(group[k], group[j])];
        group.forEach((g, i) => {
          if (g === high) group[i] = low;
        });
      }
    }
    return group;
  }

  const distinctBases = (bases) => new Set(distinctGroups(bases)).size;

  /** Uniform numbers in [0, 1) that a seed determines (mulberry32). */
  function randomNumbers(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let word = Math.imul(state ^ (state >>> 15), 1 | state);
      word ^= word + Math.imul(word ^ (word >>> 7), 61 | word);
      return ((word ^ (word >>> 14)) >>> 0) / 4294967296;
    };
  }

  /** μ^(0): random directions of length 1, or K different pixels; then normalised. */
  function startingBases(x, count, normalization, start, seed) {
    const uniform = randomNumbers(seed);
    if (start === "pixels") {
      const chosen = new Set();
      while (chosen.size < count) chosen.add(Math.floor(uniform() * x.length));
      return [...chosen].map((n) => normalize(x[n], normalization));
    }
    const gaussian = () =>
      Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
    return Array.from({ length: count }, () =>
      normalize(normalize(x[0].map(gaussian), "l2"), normalization),
    );
  }

  /** Two directions in which the pixels' directions differ most. */
  function widestPlane(x) {
    const unit = x.map((pixel) => normalize(pixel, "l2"));
    const mean = meanOf(unit);
    const apart = unit.map((pixel) => pixel.map((value, c) => value - mean[c]));
    return symmetricEigen(secondMoments(apart)).vectors.slice(0, 2);
  }

  return {
    criticalConcentration,
    distinctBases,
    distinctGroups,
    dot,
    expectationMaximization,
    meanOf,
    normalize,
    objective,
    responsibilities,
    startingBases,
    updateBases,
    widestPlane,
  };
})();
