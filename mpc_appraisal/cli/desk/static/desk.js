// Shows new requests without a reload. Without this script the page is the same, as of when it was loaded.
"use strict";
const place = document.getElementById("waiting");
let last = null;
async function refresh() {
  try {
    const answer = await fetch(place.dataset.from, { credentials: "same-origin", redirect: "error" });
    if (!answer.ok) return;
    const text = await answer.text();
    if (last !== null && text !== last) {
      const page = new DOMParser().parseFromString(text, "text/html");
      place.replaceChildren(...page.body.childNodes);
      const count = place.querySelector("h2").textContent.match(/^\d+/)[0];
      document.title = (count === "0" ? "" : `(${count}) `) + "Requests";
    }
    last = text;
  } catch {
    // The desk has ended, or is busy. The next look will tell.
  }
}
refresh();
setInterval(refresh, 5000);
