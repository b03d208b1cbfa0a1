"""The leaderboard: rendered for a terminal, as Markdown and as JSON."""
