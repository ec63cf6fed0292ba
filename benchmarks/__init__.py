"""Side-by-side measurements; results/ holds what they printed, as JSON with the machine they ran on."""
