"""The report: one offline HTML file with everything in it."""
