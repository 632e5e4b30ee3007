"""The steps of a sampling plan, for rows of many images."""
