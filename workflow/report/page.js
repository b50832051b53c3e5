"use strict";
// What the libraries make of the page: curves to hover over, a table to sort.

async function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function sortable(table) {
  const code = await unpacked(document.getElementById("table-library").textContent);
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const { jQuery } = await import(address);
  jQuery(table).DataTable({ paging: false, searching: false, info: false, order: [], autoWidth: false });
}

function drawn(place) {
  const specification = JSON.parse(document.getElementById(`${place.id}-data`).textContent);
  vegaEmbed(place, specification, { renderer: "svg", actions: false, tooltip: { theme: "custom" } });
}

for (const table of document.querySelectorAll("#per-class")) sortable(table);
for (const place of document.querySelectorAll(".chart > div")) drawn(place);
