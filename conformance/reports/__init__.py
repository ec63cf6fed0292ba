"""What a run leaves behind: a table for the eye, JSON for machines and for judging again, JUnit, and HTML pages."""
