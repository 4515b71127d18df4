"use strict";
(() => {
  const PAGE = 30;
  const form = document.querySelector(".filters");

  if (form) {
    const list = [...document.querySelectorAll(".ex")];
    const texts = new Map();
    const found = document.querySelector(".found");
    const nothing = document.querySelector(".nothing");
    const more = document.querySelector(".show-more");
    let most = PAGE;

    const textOf = (example) => {
      if (!texts.has(example)) texts.set(example, example.textContent.toLowerCase());
      return texts.get(example);
    };
    const bound = (field, otherwise) => (field.value === "" || Number.isNaN(+field.value) ? otherwise : +field.value);

    const show = () => {
      const { text, kind, reason, label, low, high } = form.elements;
      const words = text.value.trim().toLowerCase();
      const least = bound(low, -Infinity);
      const greatest = bound(high, Infinity);
      const asksScore = least !== -Infinity || greatest !== Infinity;
      let matching = 0;
      for (const example of list) {
        const its = example.dataset;
        const fits =
          (!kind.value || its.kind === kind.value) &&
          (!reason.value || its.reason === reason.value) &&
          (!label.value || its.labels.split("\n").includes(label.value)) &&
          (!asksScore || (its.score !== "" && +its.score >= least && +its.score <= greatest)) &&
          (!words || textOf(example).includes(words));
        matching += fits ? 1 : 0;
        example.hidden = !fits || matching > most;
      }
      const all = matching === list.length;
      found.textContent = all ? `${list.length} examples` : `${matching} of ${list.length} examples`;
      nothing.hidden = matching > 0;
      more.hidden = matching <= most;
    };
    const again = () => {
      most = PAGE;
      show();
    };

    form.hidden = false;
    form.addEventListener("input", again);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => setTimeout(again));
    more.addEventListener("click", () => {
      const next = list.filter((example) => !example.hidden).length;
      most += PAGE;
      show();
      const first = list.filter((example) => !example.hidden)[next];
      if (first) first.querySelector("summary").focus({ preventScroll: true });
    });
    for (const link of document.querySelectorAll("[data-pick-reason]")) {
      link.addEventListener("click", () => {
        form.reset();
        form.elements.reason.value = link.dataset.pickReason;
        setTimeout(again);
      });
    }
    show();
  }

  const all = JSON.parse(document.getElementById("readings").textContent);
  const clock = (seconds) => {
    const whole = Math.round(seconds);
    const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
    if (hours) return `${hours} h ${String(minutes).padStart(2, "0")} min`;
    return minutes ? `${minutes} min ${rest} s` : `${rest} s`;
  };

  for (const chart of document.querySelectorAll(".chart")) {
    const readings = all[+chart.dataset.panel];
    const plot = chart.querySelector(".plot");
    const cursor = plot.querySelector(".cursor");
    const output = chart.querySelector(".reading");
    let at = readings.length - 1;

    const read = (index) => {
      at = Math.max(0, Math.min(readings.length - 1, index));
      const [x, seconds, rate] = readings[at];
      cursor.setAttribute("x1", `${x}%`);
      cursor.setAttribute("x2", `${x}%`);
      cursor.setAttribute("visibility", "visible");
      output.textContent = `${Math.round(rate).toLocaleString("en")} at ${clock(seconds)}`;
    };
    const leave = () => {
      cursor.setAttribute("visibility", "hidden");
      output.textContent = "";
    };
    const nearest = (share) => {
      let best = 0;
      readings.forEach(([x], index) => {
        if (Math.abs(x - share) < Math.abs(readings[best][0] - share)) best = index;
      });
      return best;
    };

    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      read(nearest((100 * (event.clientX - box.left)) / box.width));
    });
    plot.addEventListener("pointerleave", leave);
    plot.addEventListener("blur", leave);
    plot.addEventListener("focus", () => plot.matches(":focus-visible") && read(at));
    plot.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 }[event.key];
      const index = event.key === "Home" ? 0 : event.key === "End" ? readings.length - 1 : at + (steps ?? 0);
      if (steps === undefined && event.key !== "Home" && event.key !== "End") return;
      event.preventDefault();
      read(index);
    });
  }
})();
