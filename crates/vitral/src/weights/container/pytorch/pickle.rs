//! A pickle interpreter that can only build data.
//!
//! Objects are stored in one arena and refer to each other by index, so sharing and cycles need no recursion. Every
//! opcode makes at most one object, so memory is at most a constant factor of the pickle's length.

use std::collections::HashMap;

use super::fault::Fault;

/// Index of an object in the [`Heap`].
pub(super) type Id = usize;

/// The objects a pickle can build here.
#[derive(Clone, Debug)]
pub(super) enum Object {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer that fits in 64 bits.
    Int(i64),
    /// A longer integer, little-endian two's complement.
    Long(Vec<u8>),
    /// A float; its value is not needed.
    Float,
    /// Text.
    Text(String),
    /// Bytes; their values are not needed.
    Bytes,
    /// A tuple.
    Tuple(Vec<Id>),
    /// A list or a set.
    List(Vec<Id>),
    /// A dictionary, in insertion order.
    Dict(Vec<(Id, Id)>),
    /// An allowed name.
    Global(Global),
    /// A storage: type, key and number of elements.
    Storage(Id),
    /// A tensor over a storage: the arguments of `_rebuild_tensor_v2`.
    Tensor { storage: Id, offset: Id, shape: Id, strides: Id },
    /// An instance of any other class, which is kept but not understood: the object that was called, the keys that were
    /// set on it, and its attributes.
    Instance { class: Id, pairs: Vec<(Id, Id)>, state: Option<Id> },
}

/// What the globals of a pickle mean to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`, and `dict`.
    OrderedDict,
    /// `collections.defaultdict`, whose argument makes its values.
    DefaultDict,
    /// `torch._utils._rebuild_tensor_v2`, and `_rebuild_tensor` in old files.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch._tensor._rebuild_from_type_v2`: a tensor with attributes, made by one of the others.
    RebuildFromType,
    /// `torch.FloatStorage` and the like, by name.
    StorageType(String),
    /// Anything else, by its name: `argparse.Namespace`, `collections.Counter`, a project's own class. Calling it makes an
    /// instance that is not examined; nothing is imported.
    Other(String),
}

impl Global {
    fn find(module: &str, name: &str) -> Result<Self, Fault> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") | ("builtins" | "__builtin__", "dict") => Global::OrderedDict,
            ("collections", "defaultdict") => Global::DefaultDict,
            ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
            ("torch" | "torch.storage", name) if name.ends_with("Storage") => Global::StorageType(name.into()),
            ("torch._tensor", "_rebuild_from_type_v2") => Global::RebuildFromType,
            _ if is_attack(module, name) => return Err(Fault::Forbidden(format!("{module}.{name}"))),
            _ => Global::Other(format!("{module}.{name}")),
        })
    }
}

/// Whether a name has no other use in a pickle than to run something in Python. It would do nothing here, but whoever made
/// the file meant harm, and it may be loaded in Python next.
fn is_attack(module: &str, name: &str) -> bool {
    const MODULES: [&str; 14] = [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "socket",
        "shutil",
        "runpy",
        "importlib",
        "pty",
        "ctypes",
        "webbrowser",
        "code",
        "commands",
    ];
    const BUILT_IN: [&str; 7] = ["eval", "exec", "execfile", "compile", "open", "__import__", "input"];
    let package = module.split('.').next().unwrap_or_default();
    MODULES.contains(&package) || (matches!(module, "builtins" | "__builtin__") && BUILT_IN.contains(&name))
}

/// All objects of a pickle.
#[derive(Debug, Default)]
pub(super) struct Heap {
    objects: Vec<Object>,
}

impl Heap {
    /// The object at an index.
    pub(super) fn get(&self, id: Id) -> &Object {
        &self.objects[id]
    }

    /// The text, if the object is one.
    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.get(id) {
            Object::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A count or dimension, if the object is one.
    pub(super) fn size(&self, id: Id) -> Option<usize> {
        match self.get(id) {
            Object::Int(value) => usize::try_from(*value).ok(),
            _ => None,
        }
    }

    /// All objects.
    pub(super) fn objects(&self) -> &[Object] {
        &self.objects
    }

    /// The keys and values of a dictionary, or of an instance that keys were set on.
    pub(super) fn pairs(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.get(id) {
            Object::Dict(pairs) | Object::Instance { pairs, .. } => Some(pairs),
            _ => None,
        }
    }

    /// The name of an instance's class.
    pub(super) fn class_name(&self, id: Id) -> Option<&str> {
        let Object::Instance { class, .. } = self.get(id) else { return None };
        match self.get(*class) {
            Object::Global(Global::Other(name)) => Some(name),
            _ => Some("an object"),
        }
    }

    /// The elements, if the object is a tuple or a list.
    pub(super) fn items(&self, id: Id) -> Option<&[Id]> {
        match self.get(id) {
            Object::Tuple(items) | Object::List(items) => Some(items),
            _ => None,
        }
    }
}

/// Runs one pickle to its end. Returns its objects, the result, and its length in bytes.
pub(super) fn load(program: &[u8]) -> Result<(Heap, Id, usize), Fault> {
    let mut machine = Machine {
        program,
        at: 0,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    let result = machine.run()?;
    Ok((machine.heap, result, machine.at))
}

struct Machine<'a> {
    program: &'a [u8],
    at: usize,
    heap: Heap,
    stack: Vec<Id>,
    /// Stack heights at which a mark was set.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
    /// Number of elements copied from one object to another, which must not exceed the pickle's length.
    copied: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, Fault> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                0x80 => drop(self.take(1)?), // PROTO
                0x95 => drop(self.take(8)?), // FRAME
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'N' => self.push(Object::None),
                0x88 => self.push(Object::Bool(true)),
                0x89 => self.push(Object::Bool(false)),
                b'}' => self.push(Object::Dict(Vec::new())),
                b']' | 0x8F => self.push(Object::List(Vec::new())),
                b')' => self.push(Object::Tuple(Vec::new())),
                b'J' | b'K' | b'M' | b'I' | b'L' | 0x8A | 0x8B => self.integer(opcode)?,
                b'G' => {
                    self.take(8)?;
                    self.push(Object::Float);
                }
                b'F' => {
                    self.line()?;
                    self.push(Object::Float);
                }
                b'X' | 0x8C | 0x8D | b'V' | b'S' | b'T' | b'U' => self.text(opcode)?,
                b'B' | b'C' | 0x8E | 0x96 => {
                    let length = self.length(match opcode {
                        b'B' => 4,
                        b'C' => 1,
                        _ => 8,
                    })?;
                    self.take(length)?;
                    self.push(Object::Bytes);
                }
                b't' => {
                    let items = self.since_mark()?;
                    self.push(Object::Tuple(items));
                }
                0x85..=0x87 => {
                    let count = usize::from(opcode - 0x84);
                    let start = self.stack.len().checked_sub(count).filter(|start| *start >= self.floor());
                    let items = self.stack.split_off(start.ok_or(EMPTY)?);
                    self.push(Object::Tuple(items));
                }
                b'2' => self.stack.push(*self.stack.last().filter(|_| self.stack.len() > self.floor()).ok_or(EMPTY)?),
                b'l' | 0x91 => {
                    let items = self.since_mark()?;
                    self.push(Object::List(items));
                }
                b'd' => {
                    let pairs = pairs(&self.since_mark()?)?;
                    self.push(Object::Dict(pairs));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(&[item])?;
                }
                b'e' | 0x90 => {
                    let items = self.since_mark()?;
                    self.extend_list(&items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.extend_dict(vec![(key, value)])?;
                }
                b'u' => {
                    let pairs = pairs(&self.since_mark()?)?;
                    self.extend_dict(pairs)?;
                }
                b'q' | b'r' | b'p' | 0x94 | b'h' | b'j' | b'g' => self.memory(opcode)?,
                b'c' => {
                    let module = self.line()?.to_owned();
                    let name = self.line()?.to_owned();
                    self.push(Object::Global(Global::find(&module, &name)?));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let text = |id| self.heap.text(id).ok_or("a global's name is not text");
                    let global = Global::find(text(module)?, text(name)?)?;
                    self.push(Object::Global(global));
                }
                b'R' | 0x81 => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.call(function, arguments)?;
                }
                0x92 => {
                    // Arguments by name come last; no tensor has any.
                    self.pop()?;
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    self.call(function, arguments)?;
                }
                b'b' => self.build()?,
                b'Q' => {
                    let reference = self.pop()?;
                    self.refer(reference);
                }
                other => return Err(format!("opcode {other:#04x} does not occur in checkpoints").into()),
            }
        }
    }

    fn integer(&mut self, opcode: u8) -> Result<(), Fault> {
        let value = match opcode {
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            b'K' => i64::from(self.take(1)?[0]),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'I' | b'L' => {
                let line = self.line()?;
                match line {
                    "00" | "01" if opcode == b'I' => {
                        let truth = line == "01";
                        self.push(Object::Bool(truth));
                        return Ok(());
                    }
                    _ => line.trim_end_matches('L').parse().map_err(|_| "an integer cannot be read")?,
                }
            }
            _ => {
                let length = self.length(if opcode == 0x8A { 1 } else { 4 })?;
                let bytes = self.take(length)?;
                if length > 8 {
                    let bytes = bytes.to_vec();
                    self.push(Object::Long(bytes));
                    return Ok(());
                }
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xFF } else { 0 }; 8];
                wide[..length].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Object::Int(value));
        Ok(())
    }

    fn text(&mut self, opcode: u8) -> Result<(), Fault> {
        let text = match opcode {
            b'V' => self.line()?.to_owned(),
            b'S' => self.line()?.trim_matches(['\'', '"']).to_owned(),
            _ => {
                let length = self.length(match opcode {
                    0x8C | b'U' => 1,
                    0x8D => 8,
                    _ => 4,
                })?;
                String::from_utf8_lossy(self.take(length)?).into_owned()
            }
        };
        self.push(Object::Text(text));
        Ok(())
    }

    fn memory(&mut self, opcode: u8) -> Result<(), Fault> {
        let key = match opcode {
            b'q' | b'h' => u64::from(self.take(1)?[0]),
            b'r' | b'j' => u64::from(u32::from_le_bytes(self.array()?)),
            0x94 => self.memo.len() as u64,
            _ => self.line()?.parse().map_err(|_| "a memo index cannot be read")?,
        };
        if matches!(opcode, b'h' | b'j' | b'g') {
            let id = *self.memo.get(&key).ok_or("a memo is read before it is written")?;
            self.stack.push(id);
        } else {
            self.memo.insert(key, *self.stack.last().ok_or(EMPTY)?);
        }
        Ok(())
    }

    /// An object kept elsewhere: a storage, or (before PyTorch 1.6) a class with its source.
    fn refer(&mut self, reference: Id) {
        let parts = self.heap.items(reference).unwrap_or_default();
        match *parts {
            [kind, class, ..] if self.heap.text(kind) == Some("module") => self.stack.push(class),
            _ => self.push(Object::Storage(reference)),
        }
    }

    /// Attributes of the topmost object.
    fn build(&mut self) -> Result<(), Fault> {
        let attributes = self.pop()?;
        let object = *self.stack.last().ok_or(EMPTY)?;
        if let Object::Instance { state, .. } = &mut self.heap.objects[object] {
            *state = Some(attributes);
        }
        Ok(())
    }

    /// A call, by `REDUCE` or `NEWOBJ`. What we do not know becomes an instance of it.
    fn call(&mut self, function: Id, arguments: Id) -> Result<(), Fault> {
        let instance = Object::Instance { class: function, pairs: Vec::new(), state: None };
        let (global, arguments) = match (self.heap.get(function), self.heap.items(arguments)) {
            (Object::Global(Global::Other(_)), _) => {
                self.push(instance);
                return Ok(());
            }
            (Object::Global(global), Some(arguments)) => (global.clone(), arguments),
            (Object::Global(_), None) => return Err("a call without arguments".into()),
            // A method, or a function with some of its arguments.
            (Object::Instance { .. }, _) => {
                self.push(instance);
                return Ok(());
            }
            _ => return Err("something that is not a function is called".into()),
        };
        if arguments.len() > 16 {
            return Err("a call with more arguments than any tensor has".into());
        }
        let arguments = arguments.to_vec();
        match global {
            Global::OrderedDict => {
                // Old files pass the pairs as an argument; new ones set them one by one.
                let mut pairs = Vec::new();
                let given = arguments.first().and_then(|list| self.heap.items(*list)).unwrap_or_default();
                // The same long list could be passed again and again.
                self.copied += given.len();
                if self.copied > self.program.len() {
                    return Err("a dictionary is copied too often".into());
                }
                for pair in given {
                    if let Some([key, value]) = self.heap.items(*pair) {
                        pairs.push((*key, *value));
                    }
                }
                self.push(Object::Dict(pairs));
            }
            Global::DefaultDict => self.push(Object::Dict(Vec::new())),
            Global::RebuildTensor => {
                let [storage, offset, shape, strides, ..] = arguments[..] else {
                    return Err("a tensor with too few parts".into());
                };
                self.push(Object::Tensor { storage, offset, shape, strides });
            }
            Global::RebuildParameter => {
                let tensor = *arguments.first().ok_or("a parameter without a tensor")?;
                self.stack.push(tensor);
            }
            Global::RebuildFromType => {
                let [function, _, arguments, ..] = arguments[..] else {
                    return Err("a tensor with too few parts".into());
                };
                // Once, so that a call cannot contain itself.
                if matches!(self.heap.get(function), Object::Global(Global::RebuildFromType)) {
                    return Err("a tensor of a type of a type".into());
                }
                self.call(function, arguments)?;
            }
            Global::StorageType(name) => return Err(format!("`{name}` is called, which no checkpoint does").into()),
            Global::Other(_) => {}
        }
        Ok(())
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<(), Fault> {
        let list = *self.stack.last().ok_or(EMPTY)?;
        match &mut self.heap.objects[list] {
            Object::List(present) => present.extend_from_slice(items),
            Object::Instance { .. } => {}
            _ => return Err("something is appended to an object that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, pairs: Vec<(Id, Id)>) -> Result<(), Fault> {
        let dict = *self.stack.last().ok_or(EMPTY)?;
        match &mut self.heap.objects[dict] {
            Object::Dict(present) | Object::Instance { pairs: present, .. } => present.extend(pairs),
            _ => return Err("a key is set on an object that is not a dictionary".into()),
        }
        Ok(())
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.heap.objects.len());
        self.heap.objects.push(object);
    }

    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, Fault> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY.into());
        }
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn since_mark(&mut self) -> Result<Vec<Id>, Fault> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.program.len());
        let end = end.ok_or("the pickle is cut short")?;
        let taken = &self.program[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A length stored in `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize, Fault> {
        let mut wide = [0; 8];
        wide[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(wide)).map_err(|_| "a length is larger than any memory".into())
    }

    fn line(&mut self) -> Result<&str, Fault> {
        let rest = &self.program[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n').ok_or("the pickle is cut short")?;
        self.at += end + 1;
        std::str::from_utf8(&rest[..end]).map_err(|_| "a line of the pickle is not text".into())
    }
}

const EMPTY: &str = "the pickle pops from an empty stack";

fn pairs(items: &[Id]) -> Result<Vec<(Id, Id)>, Fault> {
    if !items.len().is_multiple_of(2) {
        return Err("a dictionary with a key that has no value".into());
    }
    Ok(items.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}
