"""How well an encoder finds layouts: relevance (eq. 9), mAP and NDCG, the queries, and methods side by side.

Nothing here needs torch; only the encoder that is evaluated does.
"""
