// Structs filled from Python's keyword arguments by the tables of fields.h. An unknown or missing
// field and one of a wrong type are a TypeError, a number out of range is a ValueError; both name
// the op and the field. Keywords in the order of the table are found soonest.
#pragma once

#include <pybind11/pybind11.h>

#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "fields.h"

namespace sleeptools {

// The names in a table as Python's keywords are: interned. "x, optional(norm.eps)" is x and eps.
inline std::vector<PyObject*> interned_names(const char* text) {
  std::vector<PyObject*> names;
  for (const char* end = text; *end != '\0'; text = end + (*end != '\0')) {
    end = text + std::strcspn(text, ",");
    std::string name(text, end);
    name.erase(0, name.find_last_of(" (.") + 1);
    if (name.back() == ')') name.pop_back();
    names.push_back(PyUnicode_InternFromString(name.c_str()));
  }
  return names;
}

// Of several tables in turn; they live as long as the process.
template <class... Op>
const std::vector<PyObject*>& field_names() {
  static const auto* names = [] {
    auto* all = new std::vector<PyObject*>;
    for (const char* text : {Fields<Op>::kNames...}) {
      for (PyObject* name : interned_names(text)) all->push_back(name);
    }
    return all;
  }();
  return *names;
}

// Where a name is in a table, or its size; from `start` on and around.
inline std::size_t index_of(PyObject* name, const std::vector<PyObject*>& names,
                            std::size_t start) {
  const std::size_t count = names.size();
  for (std::size_t i = start; i < count; ++i) {
    if (names[i] == name) return i;
  }
  for (std::size_t i = 0; i < start; ++i) {
    if (names[i] == name) return i;
  }
  for (std::size_t i = 0; i < count; ++i) {
    if (PyUnicode_Compare(names[i], name) == 0) return i;
  }
  return count;
}

[[noreturn]] inline void throw_unknown(const Argument& argument,
                                       const std::vector<PyObject*>& names) {
  std::string message = argument.label() + " is unknown; expected";
  const char* separator = " ";
  for (PyObject* name : names) {
    message += separator + pybind11::cast<std::string>(pybind11::handle(name));
    separator = ", ";
  }
  throw pybind11::type_error(message);
}

// The arguments of a call, as CPython's METH_FASTCALL | METH_KEYWORDS hands them on.
struct Arguments {
  PyObject* const* values;
  Py_ssize_t positional;
  PyObject* keywords;  // tuple of their names, or null
};

// Finds the value of each name among the arguments of `op`; null for one that was not passed.
inline void find_values(const char* op, const Arguments& arguments,
                        const std::vector<PyObject*>& names, PyObject** values) {
  if (arguments.positional != 0) {
    throw pybind11::type_error(std::string(op) + " takes keyword arguments only");
  }
  const Py_ssize_t count = arguments.keywords ? PyTuple_GET_SIZE(arguments.keywords) : 0;
  std::size_t next = 0;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* name = PyTuple_GET_ITEM(arguments.keywords, i);
    const std::size_t index = index_of(name, names, next);
    if (index == names.size()) throw_unknown({op, name, nullptr}, names);
    values[index] = arguments.values[i];
    next = index + 1;
  }
}

// Fills an op and where it runs, which share out the keyword arguments of `op`.
template <class Op>
std::pair<Op, Launch> from_arguments(const char* op, const Arguments& arguments) {
  const std::vector<PyObject*>& names = field_names<Op, Launch>();
  PyObject* values[2 * FieldTable::kMost] = {};
  find_values(op, arguments, names, values);
  Fields<Op> filled{};
  Fields<Launch> launch{};
  const FieldTable table = filled.table();
  table.set(op, names.data(), values);
  launch.table().set(op, names.data() + table.size, values + table.size);
  return {filled, launch};
}

// The kind of each field, under its name.
template <class Op>
pybind11::dict field_kinds() {
  pybind11::dict kinds;
  Fields<Op> op{};
  const FieldTable table = op.table();
  const std::vector<PyObject*>& names = field_names<Op>();
  for (std::size_t i = 0; i < table.size; ++i) {
    kinds[pybind11::handle(names[i])] = table.fields[i].kind();
  }
  return kinds;
}

}  // namespace sleeptools
