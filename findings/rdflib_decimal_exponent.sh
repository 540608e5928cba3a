#!/usr/bin/env bash
# rdflib 7.6.0 takes "1e-07" for an xsd:decimal, and so does pyshacl 0.40.1 where a shape asks for this data type.
#
# XML Schema 1.1, part 2, section 3.3.3.1: the lexical form of a decimal has no exponent. Neither library says anything.
# Both do refuse "1e-07x", so that they look at the text.
#
# Therefore mpc_appraisal/governance/site writes prices without exponents, and a test compares the texts themselves.
# Exit status 0: seen again; 1: the behaviour has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --target "$folder/packages" rdflib==7.6.0 pyshacl==0.40.1 2> /dev/null
cat > "$folder/read.py" <<'PYTHON'
import pyshacl, rdflib

SHAPE = """@prefix sh: <http://www.w3.org/ns/shacl#> . @prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
<urn:shape> a sh:NodeShape ; sh:targetNode <urn:offer> ; sh:property [ sh:path <urn:price> ; sh:datatype xsd:decimal ] ."""
for text in ("0.0000001", "1e-07", "1e-07x"):
    literal = rdflib.Literal(text, datatype=rdflib.XSD.decimal)
    data = f'<urn:offer> <urn:price> "{text}"^^<http://www.w3.org/2001/XMLSchema#decimal> .'
    shape = rdflib.Graph().parse(data=SHAPE, format="turtle")
    conforms, _, _ = pyshacl.validate(rdflib.Graph().parse(data=data, format="turtle"), shacl_graph=shape)
    print(text, bool(literal.ill_typed), conforms)
PYTHON
found=$(PYTHONPATH="$folder/packages" python3 -W ignore "$folder/read.py" 2> /dev/null)
echo "text, ill-typed for rdflib, conforms for pyshacl:"
echo "$found"
[ "$found" = "0.0000001 False True
1e-07 False True
1e-07x True False" ] || exit 1
