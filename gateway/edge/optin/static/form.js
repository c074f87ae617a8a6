/* The consent page's own script. The page works without it; with it the record also says which acts of the person
   ticked which box, mistakes are told before anything is sent, and a frame tells the page around it what happened. */
(function () {
  'use strict';
  var root = document.documentElement;
  var step = root.dataset.step;
  var form = document.querySelector('form');
  var allowed = (root.dataset.origins || '').split(' ').filter(Boolean);

  function tell(type, more) {
    if (window.parent === window) return;
    var message = Object.assign({ assent: root.dataset.form, type: type }, more);
    var known = location.ancestorOrigins && location.ancestorOrigins[0];
    allowed.forEach(function (origin) {
      if (!known || known === origin) window.parent.postMessage(message, origin);
    });
  }

  function hidden(name, value) {
    var field = form.querySelector('input[type=hidden][name=' + name + ']') || document.createElement('input');
    field.type = 'hidden';
    field.name = name;
    field.value = value;
    form.appendChild(field);
  }

  function fault(text, target) {
    document.getElementById('error').textContent = text;
    document.querySelectorAll('[aria-invalid]').forEach(function (one) { one.removeAttribute('aria-invalid'); });
    target.setAttribute('aria-invalid', 'true');
    target.focus();
  }

  function watch() {
    var acts = [];
    var boxes = Array.prototype.slice.call(form.querySelectorAll('input[type=checkbox]'));
    var shownAt = Date.now();
    boxes.forEach(function (box) {
      box.checked = false;
      /* A click on the label arrives here as the box's own; keyboard clicks have no detail and no pointer. */
      var last = null;
      var label = form.querySelector('label[for=' + box.id + ']');
      var asked = null;
      var own = false;
      [box, label].forEach(function (part) {
        part.addEventListener('pointerup', function (event) {
          if (event.isTrusted) last = { by: event.pointerType || 'pointer', at: Date.now() };
        });
      });
      /* A box's change is the browser's even when a program clicked; the click before it tells whose act it was. */
      label.addEventListener('click', function (event) {
        asked = event.isTrusted;
        setTimeout(function () { asked = null; }, 0);
      });
      box.addEventListener('click', function (event) { own = event.isTrusted && asked !== false; });
      box.addEventListener('keydown', function (event) {
        if (event.isTrusted) last = { by: 'keyboard', at: Date.now() };
      });
      box.addEventListener('change', function (event) {
        var by = last && Date.now() - last.at < 1000 ? last.by : 'keyboard';
        if (['mouse', 'touch', 'pen', 'keyboard'].indexOf(by) < 0) by = 'pointer';
        acts.push({ topic: box.value, ticked: box.checked, by: by, trusted: event.isTrusted && own, at: Date.now() });
        last = null;
        own = false;
      });
    });
    form.addEventListener('submit', function (event) {
      if (event.submitter && event.submitter.value === 'decline') {
        if (window.parent !== window) {
          event.preventDefault();
          tell('declined');
        }
        return;
      }
      var number = form.querySelector('#number');
      if (!boxes.some(function (box) { return box.checked; })) {
        event.preventDefault();
        fault(form.dataset.missingTopics, boxes[0]);
      } else if (number.value.replace(/[^0-9]/g, '').length < 7) {
        event.preventDefault();
        fault(form.dataset.missingNumber, number);
      } else {
        hidden('acts', JSON.stringify(acts.slice(-64)));
        hidden('shown_at', String(shownAt));
      }
    });
    /* A page that comes back from the browser's memory starts anew: a box restored by the browser is nobody's act. */
    window.addEventListener('pageshow', function (event) {
      if (event.persisted) location.reload();
    });
  }

  if (step === 'form' && form) watch();
  var error = document.getElementById('error');
  if (error && error.textContent.trim()) {
    /* Announced again, now that the page is read: an alert that was there from the start is not always spoken. */
    var said = error.textContent;
    error.textContent = '';
    setTimeout(function () { error.textContent = said; }, 50);
    var field = form.querySelector('#code, #number');
    if (field) field.focus();
  } else if (step !== 'form') document.querySelector('h1').focus();
  document.addEventListener('keydown', function (event) {
    if (event.key === 'Escape') tell('close');
  });
  function size() { tell('size', { height: Math.ceil(document.querySelector('main').getBoundingClientRect().height) }); }
  tell('step', { step: step, title: document.title });
  size();
  if (window.ResizeObserver) new ResizeObserver(size).observe(document.body);
})();
