"""Questions to rulebooks: which rules match, what feeds a site, how large they are, whether they are right.

`dump` reads them, `sites` finds the row of a site or of a point in metres, `query` filters, `summary` counts. `verify`
(every invariant), `diff` (two sets of rulebooks) and `explain` (one output site's sum) are imported where they are
needed.
"""

from spcli.inspect.columns import rule_columns, rule_kinds
from spcli.inspect.dump import KeyedRulebook, check_keys, choose, load_dump, load_rulebooks
from spcli.inspect.query import (
    Query,
    RuleChunk,
    TableChunk,
    absence,
    hash_tables,
    rows_at,
    rules,
)
from spcli.inspect.sites import Metres, Site, SiteTable, Where, rows_of
from spcli.inspect.summary import rule_counts, rulebook_summary, summary

__all__ = [
    "KeyedRulebook", "Metres", "Query", "RuleChunk", "Site", "SiteTable", "TableChunk", "Where", "absence",
    "check_keys", "choose", "hash_tables", "load_dump", "load_rulebooks", "rows_at", "rows_of", "rule_columns",
    "rule_counts", "rule_kinds", "rulebook_summary", "rules", "summary",
]  # fmt: skip
