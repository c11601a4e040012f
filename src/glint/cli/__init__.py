"""The `glint` command. stdout is data, stderr is talk; exit statuses are in docs/errors.md."""
