const tip = document.getElementById("tip");
const stamp = new Intl.DateTimeFormat("en-GB", {
  timeZone: zone === "Local" ? undefined : zone, month: "short", day: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
});
const states = ["closed", "open", "half-open", "open and half-open"];

function told(strip, at) {
  const from = strip.from + at * strip.width;
  const lines = [
    stamp.format(from) + ", for " + (strip.width < 1000 ? Math.round(strip.width) + " ms" : +(strip.width / 1000).toFixed(1) + " s"),
    strip.good[at] + " succeeded, " + strip.failed[at] + " failed" +
      (strip.ignored[at] ? ", " + strip.ignored[at] + " say nothing" : ""),
  ];
  for (const lane of strip.lanes) {
    const price = lane.price[at], gain = lane.gain[at];
    lines.push(lane.policy + ": " + states[+lane.states[at]] +
      (price + gain + lane.neither[at] ? "; refused " + price + " that had succeeded, " + gain + " that had failed" : ""));
  }
  return lines.join("\n");
}

for (const element of document.querySelectorAll(".strip")) {
  const strip = strips[+element.dataset.strip];
  const columns = strip.good.length;
  const cursor = element.querySelector(".cursor");
  let at = Math.max(0, strip.failed.findIndex((n) => n > 0));
  const show = () => {
    const box = element.getBoundingClientRect();
    const x = (at + 0.5) / columns * box.width;
    cursor.style.left = x + "px";
    cursor.hidden = tip.hidden = false;
    tip.textContent = told(strip, at);
    tip.style.left = Math.max(4, Math.min(box.left + x + 12, innerWidth - tip.offsetWidth - 4)) + "px";
    const below = box.bottom + 8;
    tip.style.top = Math.max(4, below + tip.offsetHeight < innerHeight ? below : box.top - tip.offsetHeight - 8) + "px";
  };
  const hide = () => { cursor.hidden = tip.hidden = true; };
  element.addEventListener("pointermove", (e) => {
    const box = element.getBoundingClientRect();
    at = Math.max(0, Math.min(columns - 1, Math.floor((e.clientX - box.left) / box.width * columns)));
    show();
  });
  element.addEventListener("pointerleave", hide);
  element.addEventListener("focus", show);
  element.addEventListener("blur", hide);
  element.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -columns, End: columns }[e.key];
    if (e.key === "Escape") return hide();
    if (!step) return;
    e.preventDefault();
    at = Math.max(0, Math.min(columns - 1, at + step));
    show();
  });
}
