#include "source.hpp"

#include <cctype>
#include <cstring>
#include <set>
#include <vector>

namespace driver {
namespace {
struct Kernel {
    std::string name, most_threads;
};

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

std::string trimmed(const std::string &text) {
    size_t from = text.find_first_not_of(" \t\n"), to = text.find_last_not_of(" \t\n");
    return from == std::string::npos ? "" : text.substr(from, to - from + 1);
}

class Translator {
public:
    explicit Translator(const std::string &source) : source(source) {}

    std::string run(std::string *error) {
        while (at < source.size() && wrong.empty()) step();
        if (!wrong.empty()) {
            *error = wrong;
            return "";
        }
        output += "\n# 1 \"the table of kernels\"\nextern \"C\" {\nextern __attribute__((visibility(\"default\"))) const "
                  "emu::Entry vitral_kernels[];\n";
        output += "const emu::Entry vitral_kernels[] = {\n";
        for (const Kernel &kernel : kernels)
            output += "emu::Kernel<" + kernel.name + ">::entry(\"" + kernel.name + "\", " + kernel.most_threads + "),\n";
        output += "{}};\n}\n";
        return output;
    }

private:
    const std::string &source;
    size_t at = 0;
    std::string output, wrong;
    // The text since the last `;`, `{` or `}`: the head of a declaration.
    std::string head;
    // One for each open brace: 'n' a namespace, 'c' an `extern "C"` group, 'o' another one.
    std::vector<char> braces;
    std::vector<Kernel> kernels;
    std::set<std::string> known;

    void take(size_t count) {
        output.append(source, at, count);
        head.append(source, at, count);
        at += count;
    }

    void step() {
        char c = source[at];
        if (c == '#' && (at == 0 || source[at - 1] == '\n')) { // a line marker or a pragma
            size_t end = source.find('\n', at);
            if (end == std::string::npos) end = source.size();
            output.append(source, at, end - at);
            at = end;
        } else if (c == '"' || c == '\'') {
            take(literal_end(at) - at);
        } else if (is_word(c)) {
            size_t end = at;
            // A digit separator belongs to its number.
            bool number = std::isdigit(static_cast<unsigned char>(c));
            while (end < source.size() && (is_word(source[end]) || (number && source[end] == '\''))) end++;
            word(source.substr(at, end - at));
        } else if (c == '{') {
            if (head.find("extern \"C\"") != std::string::npos && head.find('(') == std::string::npos) braces.push_back('c');
            else if (head.find("namespace") != std::string::npos && head.find('(') == std::string::npos) braces.push_back('n');
            else braces.push_back('o');
            take(1);
            head.clear();
        } else if (c == '}') {
            if (!braces.empty()) braces.pop_back();
            take(1);
            head.clear();
        } else {
            take(1);
            if (c == ';') head.clear();
        }
    }

    size_t literal_end(size_t from) const {
        char quote = source[from];
        size_t end = from + 1;
        while (end < source.size() && source[end] != quote) end += source[end] == '\\' ? 2 : 1;
        return end + 1 < source.size() ? end + 1 : source.size();
    }

    void word(const std::string &text) {
        if (text == "__shared__") {
            shared_declaration();
        } else if (text == "__noinline__") {
            output += "__attribute__((noinline))";
            at += text.size();
        } else {
            if (text == "__global__") kernel();
            take(text.size());
        }
    }

    // ---- kernels ----
    bool in_extern_c() const {
        for (char brace : braces)
            if (brace == 'c') return true;
        return head.find("extern \"C\"") != std::string::npos;
    }

    // Finds the name in `__global__ void __launch_bounds__(256) name(`; the text itself stays as it is.
    void kernel() {
        if (head.find("template") != std::string::npos || !in_extern_c()) return;
        std::string most_threads = bounds(head);
        size_t i = at + strlen("__global__");
        std::string name;
        while (i < source.size()) {
            if (std::isspace(static_cast<unsigned char>(source[i]))) {
                i++;
            } else if (source[i] == '(') {
                if (name == "__launch_bounds__" || name == "__attribute__") {
                    size_t end = closing(i);
                    if (name == "__launch_bounds__")
                        most_threads = bounds(source.substr(i - name.size(), end - i + name.size()));
                    i = end;
                    name.clear();
                    continue;
                }
                break;
            } else if (is_word(source[i])) {
                size_t end = i;
                while (end < source.size() && is_word(source[end])) end++;
                name = source.substr(i, end - i);
                i = end;
            } else {
                return; // the compiler will say what is wrong
            }
        }
        if (known.insert(name).second) kernels.push_back({name, most_threads});
    }

    // The first argument of `__launch_bounds__(…)` in a text.
    static std::string bounds(const std::string &text) {
        size_t found = text.find("__launch_bounds__");
        if (found == std::string::npos) return "1024";
        size_t from = text.find('(', found), i = from + 1;
        for (int depth = 0; i < text.size(); i++) {
            if (text[i] == '(') depth++;
            if (depth == 0 && (text[i] == ',' || text[i] == ')')) break;
            if (text[i] == ')') depth--;
        }
        return "unsigned(" + text.substr(from + 1, i - from - 1) + ")";
    }

    // The place behind the parenthesis that closes the one at `open`.
    size_t closing(size_t open) const {
        int depth = 0;
        for (size_t i = open; i < source.size(); i++) {
            if (source[i] == '(') depth++;
            if (source[i] == ')' && --depth == 0) return i + 1;
        }
        return source.size();
    }

    // ---- shared memory ----
    // Splits `T a[2], b` at the commas outside of brackets.
    static std::vector<std::string> declarators(const std::string &text) {
        std::vector<std::string> parts(1);
        int depth = 0;
        for (char c : text) {
            if (strchr("([{<", c)) depth++;
            if (strchr(")]}>", c)) depth--;
            if (c == ',' && depth == 0) parts.emplace_back();
            else parts.back() += c;
        }
        return parts;
    }

    // `T a[2]` into `T`, `a` and `[2]`. The brackets of a template's arguments belong to the type.
    static void split(const std::string &declarator, std::string *type, std::string *name, std::string *dimensions) {
        int depth = 0;
        size_t end = declarator.size();
        for (size_t i = 0; i < declarator.size(); i++) {
            char c = declarator[i];
            if (c == '[' && depth == 0) {
                end = i;
                break;
            }
            if (strchr("([{<", c)) depth++;
            if (strchr(")]}>", c)) depth--;
        }
        *dimensions = declarator.substr(end);
        std::string before = trimmed(declarator.substr(0, end));
        size_t start = before.size();
        while (start > 0 && is_word(before[start - 1])) start--;
        *name = before.substr(start);
        *type = trimmed(before.substr(0, start));
    }

    static bool remove_word(std::string *text, const std::string &word) {
        for (size_t found = 0; (found = text->find(word, found)) != std::string::npos; found++) {
            size_t end = found + word.size();
            if ((found && is_word((*text)[found - 1])) || (end < text->size() && is_word((*text)[end]))) continue;
            text->erase(found, word.size());
            return true;
        }
        return false;
    }

    static std::string without_alignment(std::string type) {
        for (const char *word : {"__align__", "__attribute__"}) {
            size_t found = type.find(word);
            if (found == std::string::npos) continue;
            size_t end = found + strlen(word);
            int depth = 0;
            do {
                if (type[end] == '(') depth++;
                if (type[end] == ')') depth--;
                end++;
            } while (end < type.size() && (depth || type[end - 1] != ')'));
            type.erase(found, end - found);
        }
        return type;
    }

    void shared_declaration() {
        size_t end = source.find(';', at);
        if (end == std::string::npos) return fail("a `__shared__` declaration does not end");
        std::string text = source.substr(at + strlen("__shared__"), end - at - strlen("__shared__"));
        // What stands before the word belongs to the declaration, too: `extern`, `static`, an alignment.
        std::string before = head;
        bool is_end = output.size() >= before.size() && !output.compare(output.size() - before.size(), before.size(), before);
        if (!is_end) return fail("a preprocessor line within a `__shared__` declaration");
        output.erase(output.size() - before.size());
        for (char c : before)
            if (c == '\n') output += c;
        bool dynamic = remove_word(&before, "extern");
        remove_word(&before, "static");
        text = before + " " + text;
        if (text.find('=') != std::string::npos) return fail("a `__shared__` variable cannot have an initial value");
        bool in_function = false;
        for (char brace : braces) in_function |= brace == 'o';

        std::string base;
        bool first = true;
        for (const std::string &part : declarators(text)) {
            std::string type, name, dimensions;
            split(part, &type, &name, &dimensions);
            if (first) {
                // A typedef may have the attribute, not the word of C++.
                for (size_t i; (i = type.find("alignas")) != std::string::npos;) type.replace(i, 7, "__align__");
                base = type; // it holds for every name of the declaration
            }
            first = false;
            if (name.empty() || base.empty()) return fail("this `__shared__` declaration is not understood: " + trimmed(text));
            std::string shape = name + "_is_shared";
            if (dynamic) {
                // The alignment is that of the first element alone.
                std::string element = without_alignment(base);
                output += "typedef " + base + " " + shape + "; ";
                if (in_function)
                    output += element + " *const " + name + " = (" + element + " *)emu::dynamic_shared_memory(alignof(" +
                              shape + ")); ";
                else output += "static const emu::DynamicShared<" + element + ", alignof(" + shape + ")> " + name + "{}; ";
            } else if (in_function) {
                output += "typedef " + base + " " + shape + dimensions + "; static char " + name + "_key; " + shape + " &" +
                          name + " = *(" + shape + " *)emu::shared_memory(&" + name + "_key, \"" + name + "\", sizeof(" +
                          shape + "), alignof(" + shape + ")); ";
            } else {
                return fail("`__shared__` variables outside of functions are not supported: " + name);
            }
        }
        for (size_t i = at; i < end; i++)
            if (source[i] == '\n') output += '\n';
        at = end + 1;
        head.clear();
    }

    void fail(const std::string &what) {
        size_t line = 1;
        for (size_t i = 0; i < at; i++) line += source[i] == '\n';
        wrong = what + " (line " + std::to_string(line) + " after preprocessing)";
    }
};
} // namespace

std::string translate(const std::string &preprocessed, std::string *error) { return Translator(preprocessed).run(error); }
} // namespace driver
