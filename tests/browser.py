"""A page looked at in a real browser, headless, without a driver.

A copy of the page with a script at its end is opened; the script clicks and reads, and what it
writes into the document comes back with the document.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from s3prl_speechclip.data.cache import cache_home, made_once
from s3prl_speechclip.minis import debian

NAMES = ("chromium-headless-shell", "chromium", "google-chrome")
ATTEMPTS = 5  # to finish a page's script
TIMEOUT = 120  # seconds
FOUND = "found-by-test"  # id of the element that holds what the script found
UNCAUGHT = re.compile(r"CONSOLE.*Uncaught")  # on standard error, whenever it comes

WATCH = """<script>
{
window.foundErrors = [];
const keep = (...what) => window.foundErrors.push(what.join(" "));
for (const level of ["error", "assert"]) {
  const say = console[level];
  console[level] = (...what) => { keep(level, ...what); say.apply(console, what); };
}
addEventListener("error", e => keep(e.message || "cannot load " + e.target.outerHTML), true);
addEventListener("unhandledrejection", e => keep("rejected", e.reason));
addEventListener("securitypolicyviolation", e => keep("refused", e.blockedURI));
}
</script>
"""
CALL = """<script>
window.addEventListener("load", async () => {
  const found = {};
  try { found.value = await (async () => { %s })(); }
  catch (error) { found.thrown = String(error && error.stack || error); }
  found.errors = window.foundErrors;
  const box = document.createElement("pre");
  box.id = "%s";
  box.textContent = JSON.stringify(found);
  document.body.appendChild(box);
});
</script>
"""
PACKAGE_OF = {  # of libraries whose package is not called after them
    "libatspi": "libatspi2.0-0",
    "libglib-2.0": "libglib2.0-0",
    "libgobject-2.0": "libglib2.0-0",
    "libgio-2.0": "libglib2.0-0",
    "libgmodule-2.0": "libglib2.0-0",
    "libbrotlicommon": "libbrotli1",
    "libbrotlidec": "libbrotli1",
    "libharfbuzz": "libharfbuzz0b",
    "libjpeg": "libjpeg62-turbo",
    "libnssutil3": "libnss3",
    "libsmime3": "libnss3",
    "libvorbis": "libvorbis0a",
    "libz": "zlib1g",
    "libvorbisenc": "libvorbisenc2",
    "libplc4": "libnspr4",
    "libplds4": "libnspr4",
    "libpulsecommon-16.1": "libpulse0",
    "libpulsecommon-17.0": "libpulse0",
}


@dataclass(frozen=True)
class Page:
    """A page as a browser shows it."""

    dom: str
    """The document as HTML, after the script ran."""
    value: Any
    """The value that the script returned, through JSON."""
    console_errors: tuple[str, ...]
    """Exceptions, `console.error`, refused and failed loads; an exception may come twice."""


@dataclass(frozen=True)
class Browser:
    """A program that opens pages, and the environment that it needs."""

    executable: str
    environment: dict[str, str]


def open_page(page: Path, script: str = "", *, width: int = 1200, height: int = 900) -> Page:
    """Open a page, run a script in it, and give what became of it.

    Args:
        page: an HTML file; it is opened from a copy in a folder of its own, so that it has nothing
            to lean on.
        script: the body of an asynchronous JavaScript function, called once the page is loaded.
            What it returns is `Page.value`; what it throws fails the test.
        width, height: of the window, pixels.
    """
    browser = find_browser()
    text = page.read_text(encoding="utf-8")
    doctype = re.match(r"\s*<!doctype[^>]*>", text, re.IGNORECASE)
    start = doctype.end() if doctype else 0
    text = text[:start] + WATCH + text[start:] + CALL % (script, FOUND)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(text, encoding="utf-8")
        # Sound is decoded in real time, which on a busy machine outlasts the page's virtual time.
        for _ in range(ATTEMPTS):
            done = _run(
                browser, folder, "--dump-dom", f"--window-size={width},{height}", copy.as_uri()
            )
            assert done.returncode == 0, done.stderr
            match = re.search(rf'<pre id="{FOUND}">(.*?)</pre>', done.stdout, re.DOTALL)
            if match:
                break
    assert match, f"the script did not finish: {done.stderr}"
    found = json.loads(html.unescape(match[1]))
    assert "thrown" not in found, found["thrown"]
    late = [line for line in done.stderr.splitlines() if UNCAUGHT.search(line)]
    return Page(done.stdout, found.get("value"), (*found["errors"], *late))


@cache
def find_browser() -> Browser:
    """Return a browser: the machine's own, else Debian's, fetched without root."""
    for name in NAMES:
        executable = shutil.which(name)
        if executable:
            return Browser(executable, dict(os.environ))
    browser = _from_debian()
    with tempfile.TemporaryDirectory() as folder:
        done = _run(browser, folder, "--dump-dom", "about:blank")
    assert not done.returncode, f"Debian's browser does not start here: {done.stderr[-500:]}"
    return browser


def _from_debian() -> Browser:
    """Put Debian's browser and the libraries that this machine lacks into the cache."""
    program, parts = debian.packages(["chromium-headless-shell", "chromium-common"])
    home = cache_home() / "browser" / program.version.replace(":", "_")

    def merge(folder: Path) -> None:
        for package in (parts, program):
            shutil.copytree(package.root / "usr/lib/chromium", folder / "bin", dirs_exist_ok=True)
        (folder / "bin" / program.name).chmod(0o755)

    executable = made_once(home, merge) / "bin" / program.name
    roots: list[Path] = []
    wanted: set[str] = set()
    while names := {_package_of(name) for name in _missing(executable, roots)} - wanted:
        wanted |= names
        roots += [package.root for package in debian.packages(sorted(names))]
    return Browser(str(executable), _environment(roots))


def _missing(executable: Path, roots: list[Path]) -> set[str]:
    """Return the shared libraries that neither the machine nor the fetched packages have."""
    listing = subprocess.run(
        ["ldd", str(executable)],
        env=_environment(roots),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return set(re.findall(r"(\S+) => not found", listing.stdout))


def _environment(roots: list[Path]) -> dict[str, str]:
    folders = [f for r in roots for f in r.glob("**/lib/*-linux-gnu*") if f.is_dir()]
    folders += [folder / "pulseaudio" for folder in folders if (folder / "pulseaudio").is_dir()]
    path = {"LD_LIBRARY_PATH": ":".join(map(str, folders))} if folders else {}
    return {**os.environ, **path}


def _package_of(library: str) -> str:
    """Name Debian's package of a library, as `debian.packages` takes alternatives."""
    stem, _, version = library.lower().partition(".so")
    known = PACKAGE_OF.get(stem)
    if known is None:
        stem = re.sub(r"-(\d+\.\d+)$", r"\1", stem.replace("_", "-"))
        version = version.lstrip(".")
        known = f"{stem}-{version}" if version and stem[-1].isdigit() else f"{stem}{version}"
    return f"{known}|{known}t64"


def _run(browser: Browser, folder: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            browser.executable,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--disable-dev-shm-usage",
            "--virtual-time-budget=20000",
            "--enable-logging=stderr",
            f"--user-data-dir={folder}/profile",
            *arguments,
        ],
        env=browser.environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
