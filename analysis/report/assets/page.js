// What happens when the page opens: the first figure and the explorer at once, the other figures one after another.

const searched = JSON.parse(document.getElementById("searched").textContent);
const drawn = new Set();
const served = document.documentElement.dataset.version; // undefined in a file, which may lie in a frame that has no storage
const waiting = [...document.querySelectorAll("section > figure")].map((one) => figures[one.parentElement.id]); // as they stand on the page

function drawNext() {
  if (waiting.length) draw(waiting.shift());
  if (waiting.length) setTimeout(drawNext);
  else document.documentElement.dataset.drawn = "all";
}

function repaint() {
  while (printing && waiting.length) draw(waiting.shift());
  Object.values(figures).filter((figure) => !waiting.includes(figure)).forEach(paint);
  repaintExplorer();
}

function saveAs(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

if (waiting.length) draw(waiting.shift());
openExplorer().catch((error) => {
  document.getElementById("explorer-opening").textContent = `This browser cannot open the explorer: ${error.message}`;
}).then(() => setTimeout(drawNext));
document.querySelectorAll("table[data-sortable]").forEach(sortable);
document.querySelectorAll("details.cell").forEach((cell, number) => {
  const show = () => {
    if (!cell.open || drawn.has(number)) return;
    drawn.add(number);
    drawSearch(searched[number], number);
  };
  cell.addEventListener("toggle", show);
  show();
});
dark.addEventListener("change", repaint);
addEventListener("beforeprint", () => { printing = true; repaint(); });
addEventListener("afterprint", () => { printing = false; repaint(); });
const download = document.getElementById("download");
if (download) download.addEventListener("click", async () => saveAs("records.csv", await textOf("data")));

// A page that is served asks its server for news, and is loaded anew with what its reader chose; a selection is left to its reader.
if (served !== undefined) {
  const news = document.getElementById("news");
  const again = () => {
    if (explorer) sessionStorage.setItem("explorer", JSON.stringify(explorer.chosen()));
    location.reload();
  };
  setInterval(async () => {
    let version = served;
    try {
      version = await (await fetch("version")).text();
      news.textContent = "";
    } catch {
      news.textContent = "The server has stopped: this page stays as it is.";
    }
    if (version === served) return;
    if (explorer && !document.hidden && (explorer.state.picked || explorer.state.focus >= 0)) {
      news.replaceChildren("There are new records. ", Object.assign(chip("Show them"), { onclick: again }));
    } else again();
  }, 5000);
}
