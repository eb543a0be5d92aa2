# The grid page, results/<grid>/grid.html, anew after each run, failed or not.
#
# in:  what there is of the grid
# out: the page and its side files. It decides nothing and nothing reads it, so no job makes it;
#      an error of it is a warning and fails no run.

import subprocess


def write_page():
    """Not in the Snakemakes inside jobs, which know one job each."""
    if not workflow.is_main_process:
        return
    command = [
        sys.executable,
        "-c",
        "from gapgrid.cli import main; raise SystemExit(main())",
        "page",
        GRID["name"],
    ]
    options = ["--results", config.get("results", "results"), "--seeds", *map(str, GRID["seeds"])]
    environment = {**os.environ, "PYTHONPATH": str(workflow.basedir)}
    try:
        done = subprocess.run(
            [*command, *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.warning(f"the grid page was not written: {error}")
        return
    if done.returncode:
        logger.warning(f"the grid page was not written: {done.stderr.strip()[-500:]}")
    else:
        logger.info(f"grid page: {done.stdout.strip()}")


onsuccess:
    write_page()


onerror:
    write_page()
