// SPDX-License-Identifier: Apache-2.0
'use strict';
'require baseclass';

return baseclass.extend(L.dom);
