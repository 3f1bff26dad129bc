"""Pages on screens of two widths: ``python docs/check_screens.py docs/_build/html``. It needs Chromium.

No element may reach beyond the right edge of the page, but what is in a box that scrolls by itself, as tables and code
do. A page of this program, on which something does, shows that it would be found.
"""

import functools
import http.server
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

WIDTHS = (1280, 400)
SECONDS = 300
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")

FRAMES = """<!DOCTYPE html><body><script>
const scrolls = e => ["auto", "scroll"].includes(getComputedStyle(e).overflowX);
// The drawers wait beside a small screen, and what is hidden takes no room.
const elsewhere = e => e.closest(".sidebar-drawer, .toc-drawer") || !e.checkVisibility({checkVisibilityCSS: true});
function inside(e) {
  for (let box = e.parentElement; box && box !== e.ownerDocument.body; box = box.parentElement)
    if (scrolls(box)) return true;
  return false;
}
function faults(page, width) {
  const whole = page.documentElement.scrollWidth;
  const found = whole > width ? [`the page is ${whole} wide`] : [];
  for (const e of page.body.querySelectorAll("*")) {
    const right = e.getBoundingClientRect().right;
    if (right > width + 1 && !elsewhere(e) && !inside(e))
      found.push(`<${e.localName} class="${e.getAttribute("class") || ""}"> ends at ${Math.round(right)}: ` +
        e.textContent.trim().slice(0, 50));
  }
  return found;
}
const load = (path, width) => new Promise(done => {
  const frame = document.createElement("iframe");
  Object.assign(frame, {src: path, width, height: 1400, onload: () => setTimeout(() => {
    done({path, width, faults: faults(frame.contentDocument, width)});
    frame.remove();
  }, 100)});
  frame.style.border = 0;
  document.body.append(frame);
});
(async () => {
  const found = [];
  for (const [path, width] of JOBS) found.push(await load(path, width));
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
})();
</script>"""
TOO_WIDE = """<!DOCTYPE html><body style="margin: 0"><p>fine</p>
<div style="overflow-x: auto"><p style="width: 9000px">fine</p></div>
<p style="width: 9000px">too wide</p>"""


class Server(http.server.SimpleHTTPRequestHandler):
    """The site, two pages of this program, and the place where the browser leaves what it found."""

    own: dict[str, str]
    found: "queue.Queue[object]"

    def do_GET(self) -> None:
        if self.path not in self.own:
            return super().do_GET()
        body = self.own[self.path].encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)
        return None

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing is printed for a request."""


def measured(folder: Path, browser: str) -> list[dict]:
    """What Chromium says of each page, in each width."""
    pages = ["/too-wide", *(f"/{path.relative_to(folder).as_posix()}" for path in sorted(folder.rglob("*.html")))]
    jobs = json.dumps([(page, width) for page in pages for width in WIDTHS])
    Server.own = {"/too-wide": TOO_WIDE, "/frames": FRAMES.replace("JOBS", jobs)}
    Server.found = queue.Queue()
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Server, directory=str(folder))) as server,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1400,1500"]
        # With a port it stays until it is ended.
        options += [f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        address = f"http://127.0.0.1:{server.server_port}/frames"
        process = subprocess.Popen([browser, *options, address], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        try:
            return Server.found.get(timeout=SECONDS)
        finally:
            process.terminate()
            process.wait()
            server.shutdown()


def main(folder: Path) -> int:
    browser = os.environ.get("CHROME") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    if browser is None:
        print(f"no Chromium: install it (`apt-get install chromium`), or set CHROME; tried {', '.join(PROGRAMS)}")
        return 2
    shown, *found = measured(folder, browser)[len(WIDTHS) - 1 :]
    if len(shown["faults"]) != 2:  # the page, and the paragraph
        print(f"the page that is too wide was not found to be: {shown}")
        return 2
    for page in found:
        for fault in page["faults"][:5]:
            print(f"{page['path']} at {page['width']}: {fault}")
    count = sum(len(page["faults"]) for page in found)
    print(f"{len(found) // len(WIDTHS)} pages in {len(WIDTHS)} widths, {count} elements that are too wide")
    return 1 if count or not found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
