# report.awk: what report-page says of a case, from what predict left in the folder (ENVIRON["dir"]): one reading of each file, as a page of
# a hundred cases asks for all of it. With ENVIRON["name"], a case, assignments for the shell, all quoted: name_text, NAME_columns of
# its measures, rows of its tables, `mind`. Without, a line for each case: its name, how a link has it, the name and the
# row's other cells, all HTML, tabs between.

# Without backslashes, of which echo makes other characters in some shells.
function text(s) { gsub(/&/, "\\&amp;", s); gsub(/</, "\\&lt;", s); gsub(/>/, "\\&gt;", s); gsub(/"/, "\\&quot;", s); gsub(/\\/, "\\&#92;", s); return s }
function say(name, value) { gsub(/'/, "'\\''", value); print name "='" value "'" }
# Bytes of a name as a link has them.
function link(s,    i, c, out) {
    for (i = 1; i <= length(s); i++) { c = substr(s, i, 1); out = out (c ~ /[A-Za-z0-9._-]/ ? c : sprintf("%%%02X", byte[c])) }
    return out
}
function sure(e) { return e == "" || e == "nan" ? "" : e < 0.15 ? "sure" : e < 0.35 ? "fairly sure" : "unsure" }
# Gliomas have a core: of 60 patients of BraTS it made up 4 % of the tumour or more, which had 14 ml or more. What networks drew in ten heads
# without tumour had hardly any, measured up to 31 ml, and they were as sure of some of it as of tumours.
function coreless(c) { return ml[c, "WT"] > 0 && ml[c, "TC"] < 0.02 * ml[c, "WT"] }
function doubtful(c) { return coreless(c) || (ml[c, "WT"] > 0 && ml[c, "WT"] < 10) }
function how_sure(c, p,    s) { s = sure(entropy[c, p]); return p == "WT" && s ~ /sure/ && s != "unsure" && doubtful(c) ? "doubtful" : s }
function or_dash(e, what) { return e == "nan" ? "&ndash;" : sprintf("%.2f", e) }

# Cells of the line read last, by the columns' names.
function heads(    i, n, part) { n = split(line, part, "\t"); for (i = 1; i <= n; i++) at[part[i]] = i }
function cell(name) { return cells[at[name]] }

# Of each case: ml, entropy and pieces by part; lesions; the sum of products. Cases in their order.
function read_measures(file,    c, p) {
    if ((getline line <file) > 0) heads()
    while ((getline line <file) > 0) {
        split(line, cells, "\t")
        c = cell("case")
        if (!(c in lesions)) { cases[++n_cases] = c; lesions[c] = 0 }
        if (cells[1] == "part") {
            p = cell("part")
            ml[c, p] = cell("ml"); entropy[c, p] = cell("entropy"); pieces[c, p] = cell("components")
        } else if (cells[1] == "lesion" && ++lesions[c] && c "" == name "") {
            if (lesions[c] <= 20)
                lesion_rows = lesion_rows sprintf("<tr><td>%d</td><td>%.2f</td><td>%.1f</td><td>%.1f</td><td>%.0f</td><td>%s</td><td>%d</td></tr>\n", cell("lesion"), cell("ml"), cell("longest"), cell("across"), cell("product"), cell("measurable"), cell("slice"))
        } else if (cells[1] == "sum") {
            product[c] = cell("product"); measured[c] = cell("components")
        }
    }
    close(file)
}

# What predict noted of a case, or of the data set with it. fact[]: 2 spacing, 3 slices, 4 modalities, 5 missing, 6 trained; said: what
# tools said that names it.
function read_notes(c,    file, part) {
    split("", fact); said = other = ""
    file = dir "/notes/" c ".tsv"
    if ((getline line <file) < 0) file = dir "/notes/all.tsv"
    close(file)
    while ((getline line <file) > 0)
        if (split(line, part, "\t") && part[1] "" == c "") { split(line, fact, "\t"); break }
    close(file)
    file = dir "/notes/" c ".txt"
    if ((getline line <file) < 0) file = dir "/notes/all.txt"
    close(file)
    while ((getline line <file) > 0)
        if (index(line, ": " c ": ") || index(line, "(" c " slice")) {
            said = said line "\n"
            if (line ~ /warning: / && line !~ /no file for|is not what the model|nothing took the skull off|learned from heads|own field, and the model|fills the slice|passed over|are a guess|slices are missing|model.s training|not said again/) other = 1
        }
    close(file)
}
function mind(s) { minds = minds "<li>" text(s) "</li>\n"; n_minds++ }
function read_minds(c,    v, m, e) {
    minds = ""; n_minds = 0
    read_notes(c)
    if (match(said, /a mask of [0-9]+ ml is no likely brain/))
        mind("What was taken for brain measures " substr(said, RSTART + 10, index(substr(said, RSTART + 10), " ") - 1) " ml, which is no likely brain: look at the pictures under Quality.")
    if (index(said, "in pieces: ")) mind("What was taken for brain is, or was, in pieces: look at the pictures under Quality.")
    if (index(said, "did the registration fail")) mind("A scan was turned or stretched much to lie on the others, so that its registration may have failed: look at the pictures under Quality.")
    if (index(said, "is it registered, and the same part")) mind("The scans do not show the same part of the body, or do not lie on each other: look at the pictures under Quality.")
    if (index(said, "are some missing?")) mind("A scan has fewer slices than another of its kind: an end of it may be missing.")
    if (index(said, "is an end of it missing?") || index(said, "were others not sent?")) mind("The brain goes on where a scan ends, or a scan shows nothing of a part of it: slices may be missing, and what lies there was not looked at.")
    if (index(said, "is that a whole head")) mind("The scans show little for a whole head.")
    split(fact[2], v, " ")
    m = fact[5]; gsub(/,/, ", ", m)
    if (m != "") mind("There is no scan of " m ": the network learned to do without, but finds less.")
    if (fact[6] == "yes") mind("The network learned from this very patient: what it finds here says nothing of how good it is.")
    if (index(said, "is not what the model learned from")) {
        m = fact[2]; gsub(/ /, " x ", m)
        mind("Voxels of " m " mm are not like those that the network learned from" (learned == "" ? "" : " (" learned " mm)") ".")
    }
    if (match(said, / has slices [0-9.]+ mm apart/)) v[3] = substr(said, RSTART + 12, RLENGTH - 21)
    if (v[3] >= 3) mind(sprintf("Slices are %g mm apart: what is smaller may lie between them, and diameters across slices are coarse.", v[3]))
    if (index(said, "nothing took the skull off")) mind("Nothing took the skull off, and the network does not say that it learned from heads with theirs: it may take parts of the head for tumour.")
    if (index(said, "learned from heads with their skull")) mind("The network learned from heads with their skull, which nothing says that this one has.")
    if (index(said, "own field, and the model learned")) mind("The head lies as it was scanned, and the network learned from heads that lie on an atlas.")
    if (index(said, "fills the slice")) mind("What is not black fills the slice, as a head with its skull does: the network wants the brain alone.")
    if (index(said, "passed over:")) mind("Some files of the case's folder were passed over, as their names told nothing.")
    if (index(said, "are a guess")) mind("The header does not say where left and right are: they are a guess.")
    if (index(said, "slices are missing")) mind("Slices are missing; nothing is found there.")
    if (other) mind("A tool warned of something else, which stands in the folder notes.")
    m = ml[c, "WT"]; e = entropy[c, "WT"]
    if (m == 0) mind("No tumour was found.")
    else if (e != "nan" && e > 0.25) mind(sprintf("The network is unsure of the tumour as a whole (%.2f on average): it may be none.", e))
    if (m > 400) mind(sprintf("What was found measures %.0f ml, where of 60 patients nobody had more than 231: look at the scans, something in their preparation may have failed.", m))
    if (coreless(c)) mind(sprintf("What was found (%.2f ml) has no core to speak of (%.2f ml), which gliomas have before surgery: it may be what surgery left, or no tumour, however sure the network is. Spots of another disease, of age, or nothing at all look so to it.", m, ml[c, "TC"]))
    if (m > 0 && m < 10) mind(sprintf("What was found measures %.2f ml in all: so little may be none. Of 60 patients with a glioma nobody had less than 14.", m))
    if (ml[c, "ET"] > 0 && entropy[c, "ET"] != "nan" && entropy[c, "ET"] > 0.5) mind(sprintf("The network is unsure of the enhancing part (%.2f on average).", entropy[c, "ET"]))
}

# What `infer -n` said of the models: how they are called, what they scored, how many they learned from.
function read_model(file,    part, v) {
    while ((getline line <file) > 0) {
        split(line, part, "\t")
        if (part[1] == "arch" || part[1] == "parameters") network = network (network == "" ? "" : " ") part[2]
        if (part[1] == "score" && part[2] != "") scores = scores (scores == "" ? "" : ", ") sprintf("%.3f", part[2])
        if (part[1] == "patients" && part[2] > patients) patients = part[2]
        if (part[1] == "leaky" && part[2] == "yes") leaky = "yes"
    }
    close(file)
    if (split(ENVIRON["learned"], v, " ") == 6) learned = v[1] " x " v[2] " x " v[3] " to " v[4] " x " v[5] " x " v[6]
}
# Whether anyone without a tumour was among those that the model learned from, as its card tells.
function read_card(file,    part) {
    healthy = "A network that learned from patients who all had one draws something in most others, and is sure of some of it; this one does not say whom it learned from."
    while ((getline line <file) > 0)
        if (line ~ /^- All [0-9]+ cases learned from had a tumour/) { split(line, part, " "); healthy = "This network learned from " part[3] " cases, all with a tumour: such networks draw something in most others, and are sure of some of it." }
        else if (line ~ /^- [0-9]+ of [0-9]+ cases learned from had no tumour/) { split(line, part, " "); healthy = "Of the " part[4] " cases that this network learned from " part[2] " had none." }
    close(file)
}
function read_voxels(file,    part) {
    while ((getline line <file) > 0) { split(line, part, "\t"); voxel[part[1]] = voxel[part[1]] (voxel[part[1]] == "" ? "" : " ") part[2] }
    close(file)
}
function read_made(file,    part) {
    while ((getline line <file) > 0) { split(line, part, "\t"); if (part[1] == "gliopipe") version = part[2]; if (part[1] == "MODEL") { model = part[3]; checksum = part[2] } }
    close(file)
    sub(/\/+$/, "", model); sub(/.*\//, "", model)
}

function big(c,    i, p, m, out, name) {
    name["WT"] = "whole tumour"; name["TC"] = "tumour core"; name["ET"] = "enhancing"
    for (i = 1; i <= 3; i++) {
        p = PARTS[i]; m = ml[c, p]
        out = out sprintf("<div><b>" (m < 10 ? "%.2f" : "%.1f") "<small> ml</small></b><span>%s%s</span></div>\n", m, name[p], (how_sure(c, p) == "" ? "" : ", ") how_sure(c, p))
    }
    return out sprintf("<div><b>%d</b><span>enhancing lesions</span></div>\n<div><b>%.0f<small> mm&sup2;</small></b><span>sum of products</span></div>\n", lesions[c], product[c])
}
function measures(c,    i, p, out, name) {
    name["WT"] = "whole tumour"; name["TC"] = "tumour core"; name["ET"] = "enhancing tumour"
    for (i = 1; i <= 3; i++) {
        p = PARTS[i]
        if ((c, p) in ml) out = out sprintf("<tr><td>%s<small>%s</small></td><td>%.2f</td><td>%d</td><td>%s</td></tr>\n", p, name[p], ml[c, p], pieces[c, p], or_dash(entropy[c, p]))
    }
    return out
}
function quality(    v, out, m, i) {
    split(fact[2], v, " ")
    out = sprintf("<tr><td>voxels</td><td>%s x %s x %s mm</td></tr>\n", v[1], v[2], v[3])
    if (split(voxel["grid"], v, " ")) out = out sprintf("<tr><td>grid</td><td>%s x %s x %s</td></tr>\n", v[1], v[2], v[3])
    m = ""
    for (i = split(fact[4], v, ","); i >= 1; i--) if (index("," fact[5] ",", "," v[i] ",") == 0) m = text(v[i]) (m == "" ? "" : ", ") m
    out = out "<tr><td>scans</td><td>" m "</td></tr>\n"
    m = text(fact[5]); gsub(/,/, ", ", m)
    if (m != "") out = out "<tr><td>without</td><td>" m "</td></tr>\n"
    return out "<tr><td>patient</td><td>" (fact[6] == "yes" ? "the network learned from him" : "the network has not seen him, by name or by voxels") "</td></tr>"
}
function provenance() {
    return sprintf("<tr><td>made by</td><td>gliopipe %s, %s</td></tr>\n", text(version), today) \
        sprintf("<tr><td>model</td><td>%s<small>checksum %s</small></td></tr>\n<tr><td>network</td><td>%s</td></tr>\n", text(model), text(checksum), text(network)) \
        sprintf("<tr><td>its scores</td><td>%s</td></tr>\n", scores == "" ? "none that it says of itself" : scores ": mean Dice of WT, TC and ET of the patients who validated") \
        sprintf("<tr><td>it learned from</td><td>%s%s</td></tr>", patients ? sprintf("%d patient%s, ", patients, patients == 1 ? "" : "s") : "", learned == "" ? "" : "voxels of " learned " mm") \
        (leaky == "" ? "" : "\n<tr><td>leak</td><td>patients were on both sides of its split: its scores are no scores</td></tr>")
}

BEGIN {
    for (i = 1; i < 256; i++) byte[sprintf("%c", i)] = i
    split("WT TC ET", PARTS, " ")
    dir = ENVIRON["dir"]; name = ENVIRON["name"]; today = ENVIRON["today"]
    read_measures(dir "/volumes.tsv")
    read_model(dir "/model")
    read_made(dir "/made-with")
    read_card(dir "/card.md")
    if (name == "") {
        for (i = 1; i <= n_cases; i++) {
            c = cases[i]
            read_minds(c)
            printf "%s\t%s\t%s\t<td>%.2f</td><td>%.2f</td><td>%.2f</td><td>%d</td><td>%.0f</td><td>%s<small>%s</small></td><td>%d</td>\n", c, link(c), text(c),
                ml[c, "WT"], ml[c, "TC"], ml[c, "ET"], lesions[c], product[c], or_dash(entropy[c, "WT"]), how_sure(c, "WT"), n_minds
        }
        exit
    }
    read_minds(name)
    read_voxels(dir "/views/" name "_voxels.tsv")
    say("name_text", text(name))
    say("big", big(name))
    say("minds", minds)
    say("measures", measures(name))
    if (lesions[name] > 20) lesion_rows = lesion_rows sprintf("<tr><td>and %d smaller</td><td colspan=\"6\"></td></tr>\n", lesions[name] - 20)
    say("lesions", lesion_rows)
    say("sum", sprintf("Sum of the products of %d measurable lesion%s: <b>%.0f mm&sup2;</b>.", measured[name], measured[name] == 1 ? "" : "s", product[name]))
    say("quality", quality())
    say("healthy", healthy)
    say("provenance", provenance())
    split(voxel["scan"], first, " ")
    say("scan", text(first[1]))
    say("data", sprintf("data-size=\"%s\" data-columns=\"%s\" data-spacing=\"%s\" data-origin=\"%s\" data-at=\"%s\" data-scans=\"%s\"", text(voxel["size"]), text(voxel["columns"]), text(voxel["spacing"]), text(voxel["origin"]), text(voxel["at"]), text(voxel["scan"])))
}
