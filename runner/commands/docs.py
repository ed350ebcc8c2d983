"""The command that makes the warehouse's docs: `oversight docs`."""

import click


@click.command(epilog="\b\nExample:\n  oversight docs")
def docs() -> None:
    """Make the docs of the warehouse (dbt docs), which the API shows at /docs/warehouse.

    Again after changes of the project; the API shows the new ones at once.
    """
    from runner.progress import Steps
    from runner.site import build_site
    from runner.up.serve import base_url
    from warehouse.settings import load_settings

    settings = load_settings()
    with Steps().step("making the docs of the warehouse"):
        page = build_site(settings)
    click.echo(f"made {page}; while the API serves: {base_url(settings)}/docs/warehouse")
