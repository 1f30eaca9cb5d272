"""The tables and figures of the papers in their own arrangement, ours beside the printed numbers.

`arrangements` names the builder of every item of `published_items`; a builder is a function from an
`ItemRequest` (the runs and epochs, sorted to the rows that they feed) to the `ItemContent` that
`item_page`, `item_text` and `latex` write. There is a builder for each kind of arrangement, not for
each item.
"""
