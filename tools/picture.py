"""The README's picture: the top of a run's page as Chromium draws it, on light and on dark ground.

    python -m tools.picture runs/tiny/grpo          writes docs/report.png and docs/report-dark.png
"""
import shutil
import subprocess
import tempfile
from pathlib import Path

from experiments.report import write_report
from runs import Parser, UserError, check_writable, command, whole

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def picture(page: Path, out: Path, width: int, height: int, dark: bool = False) -> None:
    """The first width x height pixels of a page as PNG. UserError: no browser, or it does not do it."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UserError(f"none of {', '.join(BROWSERS)} is installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
             "--hide-scrollbars", f"--user-data-dir={folder}/profile", f"--window-size={width},{height}",
             "--virtual-time-budget=3000", *(["--force-dark-mode"] if dark else []),
             f"--screenshot={folder}/page.png", page.resolve().as_uri()],
            capture_output=True, timeout=120, check=False)
        if result.returncode or not Path(folder, "page.png").is_file():
            raise UserError(f"{browser} made no picture of {page}")
        shutil.copy(f"{folder}/page.png", out)


def main(argv: list[str] | None = None) -> None:
    """Write a run's page, and two pictures of its top."""
    parser = Parser("python -m tools.picture", main.__doc__)
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder, such as runs/tiny/grpo")
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"), help="the light one")
    parser.add_argument("--width", type=whole(), default=1180, help="pixels")
    parser.add_argument("--height", type=whole(), default=1300, help="pixels")
    args = parser.parse_args(argv)
    page, dark = args.run / "report.html", args.out.with_stem(args.out.stem + "-dark")
    for path in (args.out, dark, page):
        check_writable(path)
    write_report([args.run], page)
    picture(page, args.out, args.width, args.height)
    picture(page, dark, args.width, args.height, dark=True)
    print(f"Written: {args.out}, {dark}")


if __name__ == "__main__":
    command(main)
