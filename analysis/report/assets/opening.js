"use strict";
// The first code that runs: plotly.js, the figures and the records lie deflated in the page, of which they are most.

const texts = {}; // by the element that held it, text that the page's code reads

async function embedded(id) {
  const raw = atob(document.getElementById(id).textContent);
  const packed = new Uint8Array(raw.length);
  for (let index = 0; index < raw.length; index += 1) packed[index] = raw.charCodeAt(index);
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate")));
}

async function textOf(id) {
  return (await embedded(id)).text();
}

function run(code) {
  document.head.append(Object.assign(document.createElement("script"), { textContent: code }));
}

Promise.all(["plotly", "figures"].map(textOf)).then(([plotly, figures]) => {
  texts.figures = figures;
  run(plotly);
  run(document.getElementById("page-code").textContent);
}).catch((error) => {
  document.getElementById("explorer-opening").textContent = `This browser cannot open the report: ${error.message}`;
});
