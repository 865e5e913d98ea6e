-- What a document's history must keep is asked at every write: of the snapshots at its key and above it, not of all. And what a
-- document was at a snapshot is found by number, without the bodies of the versions before and behind it.

CREATE INDEX snapshot_by_prefix ON snapshot (namespace, prefix, number, name);

CREATE INDEX document_change_by_number ON document_change (namespace, key, number, version);
