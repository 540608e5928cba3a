#!/usr/bin/env bash
# mlcroissant 1.1.1 does not take what the specification of Croissant 1.1 writes, in three places:
#
#  1. The context of the specification's first appendix names http://schema.org/. A file with it is refused ("doesn't
#     extend https://schema.org/Dataset"), and the same file with https://schema.org/ is taken.
#  2. That context says that "value" is cr:value. With it, the values of all annotations (the statistics of columns) are
#     read as None without a word; without the line, as https://schema.org/value, they are read.
#  3. An offer in usageInfo (section on data use conditions) whose odrl:target is the data set's own @id, as ODRL asks
#     for a target, ends in a KeyError, or in a RecursionError where the file states other keys. An offer on the file
#     does not.
#
# Therefore mpc_appraisal/governance/site/croissant.py names https://schema.org/, states a value under both names, and
# lets an offer's target be the distribution. Exit status 0: seen again; 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --target "$folder/packages" mlcroissant==1.1.1 2> /dev/null
cat > "$folder/read.py" <<'PYTHON'
import copy, json, logging, os, sys
import mlcroissant

logging.disable(logging.CRITICAL)
PLAIN = ("annotation column extract field fileObject isLiveDataset recordSet source").split()
CONTEXT = {"@language": "en", "@vocab": "SCHEMA", "sc": "SCHEMA", "cr": "http://mlcommons.org/croissant/",
           "dct": "http://purl.org/dc/terms/", "conformsTo": "dct:conformsTo", "odrl": "http://www.w3.org/ns/odrl/2/",
           "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "value": "cr:value",
           **{key: f"cr:{key}" for key in PLAIN}}
FILE = {"@type": "sc:Dataset", "@id": "https://example.org/#data", "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": "a", "description": "b", "url": "https://example.org/", "license": "https://spdx.org/licenses/MIT.html",
        "creator": {"@type": "sc:Person", "name": "c"}, "datePublished": "2026-01-31", "version": "1.0.0",
        "distribution": [{"@type": "cr:FileObject", "@id": "f", "name": "f", "contentUrl": "https://example.org/f.csv",
                          "encodingFormat": "text/csv", "sha256": "0" * 64}],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "r", "field": [
            {"@type": "cr:Field", "@id": "r/x", "name": "x", "dataType": "sc:Float",
             "source": {"fileObject": {"@id": "f"}, "extract": {"column": "x"}},
             "annotation": [{"@type": "cr:Field", "@id": "r/x/mean", "value": 42.5, "dataType": "sc:Float"}]}]}]}

def read(schema, value=True, target=None):
    context = json.loads(json.dumps(CONTEXT).replace("SCHEMA", schema))
    if not value:
        del context["value"]
    content = {"@context": context, **copy.deepcopy(FILE)}
    if target:
        content["usageInfo"] = {"@type": ["CreativeWork", "odrl:Offer"], "odrl:permission": {
            "@type": "odrl:Permission", "odrl:action": {"@id": "odrl:use"}, "odrl:target": {"@id": target}}}
    with open(sys.argv[1], "w") as file:
        json.dump(content, file)
    try:
        found = mlcroissant.Dataset(sys.argv[1]).metadata.record_sets[0].fields[0].annotations[0].value
    except (mlcroissant.ValidationError, KeyError, RecursionError) as error:
        return type(error).__name__
    return str(found)

https = "https://schema.org/"
print(read("http://schema.org/"), read(https), read(https, value=False),
      read(https, value=False, target="https://example.org/#data"), read(https, value=False, target="f"))
PYTHON
found=$(PYTHONPATH="$folder/packages" python3 -W ignore "$folder/read.py" "$folder/croissant.json" 2> /dev/null)
echo "the specification's context; with https; without its value; an offer on the data set; an offer on the file:"
echo "$found"
[ "$found" = "ValidationError None 42.5 KeyError 42.5" ] || exit 1
