"""The user study of section 4.4: people judge, blindly, what the methods have found.

============  ====================================================================================================
`rankings`    what each method finds: over a set of photos and sketches, or in collections
`plan`        the study as a file: queries, tasks, checks; what raters see, and what they must not
`prepare`     rankings to a folder: tasks drawn and shuffled by a seed, drawings and photos as pictures
`store`       raters, leases and ratings in SQLite
`pages`       the rating page and its endpoints
`scoring`     ratings to relevance, Table 2, tests and agreement
`histograms`  Fig. 4
`report`      all of these as files
============  ====================================================================================================
"""
