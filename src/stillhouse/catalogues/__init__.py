"""Where prices come from: the `genai_prices` package and a team's own dated YAML."""
