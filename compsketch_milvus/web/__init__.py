"""The sketch page's server: `app.create_app` makes it, `compsketch web` runs it. Needs the extra `web`."""
