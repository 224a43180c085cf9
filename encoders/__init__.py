"""The paper's networks and measures; one module an equation. Nothing here knows of Milvus."""
